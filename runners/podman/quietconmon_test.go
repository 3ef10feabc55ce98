package podman_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hearth-build/hearth/runners"
	"github.com/hearth-build/hearth/runners/podman"
)

// TestConmonStartsNoPodman: a container that ends starts no podman to clean up after it,
// and yet nothing of it is left once it is removed.
func TestConmonStartsNoPodman(t *testing.T) {
	dataDir := t.TempDir()
	r := start(t, open(t, options(dataDir)), runners.HostImage)
	var conmons int
	for _, line := range processesOf(t, dataDir) {
		if !strings.Contains(line, r.spec.ID) {
			continue
		}
		conmons++
		if strings.Contains(line, "--exit-command") || !strings.Contains(line, "-l k8s-file:") {
			t.Errorf("conmon runs with %s", line)
		}
	}
	if conmons != 1 {
		t.Errorf("%d conmons of the container", conmons)
	}
	r.remove()
	await(t, "its conmon ends", func() bool {
		for _, line := range processesOf(t, dataDir) {
			if strings.Contains(line, r.spec.ID) {
				return false
			}
		}
		return true
	})
}

// TestQuietConmon: only what is to be dropped is, whatever the other arguments are.
func TestQuietConmon(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "it's here")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	conmon := filepath.Join(dir, "real")
	if err := os.WriteFile(conmon, []byte("#!/bin/sh\nprintf '<%s>' \"$@\"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(dir, "containers.conf")
	if err := os.WriteFile(conf, []byte("[engine]\nconmon_path = [\""+conmon+"\"]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("CONTAINERS_CONF", conf)
	script := filepath.Join(dir, "conmon")
	if err := podman.WriteQuietConmon(dir); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, args, want string }{
		{"none", "", "<>"},
		{"others", "-c|id|--log-size-max|1048576|no,--exit-command|a b|*|", "<-c><id><--log-size-max><1048576><no,--exit-command><a b><*><>"},
		{"the last", "-s|--exit-command|/usr/bin/podman|--exit-command-arg|--root|--exit-command-arg|--exit-command", "<-s>"},
		{"in between", "--exit-command-arg|x|--name|y", "<--name><y>"},
		{"an exec", "--exec-process-spec|f|--exit-command|podman", "<--exec-process-spec><f><--exit-command><podman>"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var args []string
			if c.args != "" {
				args = strings.Split(c.args, "|")
			}
			out, err := exec.Command(script, args...).CombinedOutput()
			if err != nil || string(out) != c.want {
				t.Errorf("%q, %v; want %q", out, err, c.want)
			}
		})
	}
}
