package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// named makes a link to this program that is called hearth, and returns its directory.
func named(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Symlink(self, filepath.Join(dir, "hearth")); err != nil {
		t.Fatal(err)
	}
	return dir
}

// in runs a script in a shell that finds hearth.
func in(t *testing.T, shell, script string) []string {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), shell, "-c", script)
	cmd.Env = append(os.Environ(), "PATH="+named(t)+":"+os.Getenv("PATH"), "HOME="+dir, "XDG_CONFIG_HOME="+dir, "XDG_DATA_HOME="+dir)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", shell, err, out)
	}
	return strings.Fields(string(out))
}

// What a shell asks for: with the line so far in COMP_LINE, hearth prints what may
// follow.
func TestCompletion(t *testing.T) {
	for line, want := range map[string]string{
		"hearth ser":                  "serve",
		"hearth serve --paus":         "--pause --pause-delay",
		"hearth serve --pause ":       "adaptive always never",
		"hearth runners ins":          "inspect",
		"hearth completion ":          "bash fish zsh",
		"hearth man":                  "", // which is not for people
		"hearth actions list --limit": "--limit",
	} {
		out, err := hearth(t, []string{"COMP_LINE=" + line})
		got := strings.Fields(out)
		slices.Sort(got)
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%q: %q, %v, want %q", line, got, err, want)
		}
	}
}

// Each shell takes what is printed for it, and asks then.
func TestCompletionOfShells(t *testing.T) {
	if got := in(t, "fish", `hearth completion fish | source; complete -C "hearth serve --pause "`); !slices.Equal(got, []string{"adaptive", "always", "never"}) {
		t.Errorf("fish completes to %q", got)
	}
	if got := in(t, "bash", `source <(hearth completion bash) && complete -p hearth`); len(got) != 4 || got[0] != "complete" || got[3] != "hearth" {
		t.Errorf("bash has %q", got)
	}
	if got := in(t, "zsh", `source <(hearth completion zsh) && print $_comps[hearth]`); len(got) == 0 || !strings.Contains(strings.Join(got, " "), "bash_complete") {
		t.Errorf("zsh has %q", got)
	}
	if out, err := hearth(t, nil, "completion", "tcsh"); err == nil || !strings.Contains(out, `"bash","zsh","fish"`) {
		t.Errorf("%v: %s", err, out)
	}
}
