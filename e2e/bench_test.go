package e2e_test

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestBenchBuild builds in each way. Which one is faster is no matter of tests.
func TestBenchBuild(t *testing.T) {
	h := startHearth(t, "/")
	scratch := shortTempDir(t)
	rc, err := exec.Command(setup(t, "bazel4-offline.sh"), filepath.Join(scratch, "offline")).Output()
	if err != nil {
		t.Fatal(err)
	}
	args := []string{
		"../bin/hearth", "bench", "build", "--endpoint=" + h.endpoint(t), "--startup=--bazelrc=" + strings.TrimSpace(string(rc)),
		"--libraries=2", "--genrules=3", "--rounds=1", "--dir=" + scratch,
	}
	out := runProgram(t, "", append(args, "--way=recycled,fresh,sandbox,local")...).want(t, 0)
	lines := strings.Split(strings.TrimSpace(out.stdout), "\n")
	if len(lines) != 5 {
		t.Fatalf("it printed %q", out.stdout)
	}
	for i, way := range []string{"recycled", "fresh", "sandbox", "local"} {
		if !strings.HasPrefix(lines[i+1], "build of ") || !strings.Contains(lines[i+1], way) {
			t.Errorf("line %d is %q, want that of %s", i+1, lines[i+1], way)
		}
	}
	if n := entries(t, scratch); n != 1 { // what the offline rc needs
		t.Errorf("there are %d entries in its directory, want it to be as it was", n)
	}
	// A server that is not there is no way to build.
	args[3] = "--endpoint=grpc://127.0.0.1:1"
	runProgram(t, "", append(args, "--way=recycled", "--build-flag=--remote_retries=0")...).want(t, 1, "recycled", "127.0.0.1:1")
}

// TestDemo: what `make demo` shows, of fewer targets. How long each build takes is no
// matter of tests.
func TestDemo(t *testing.T) {
	program(t)
	lines := strings.Split(runProgram(t, "", setup(t, "demo.sh"), "//genrules/...").want(t, 0).stdout, "\n")
	for _, way := range []struct{ name, did string }{
		{"cold: ", "remote"}, {"warm: ", "remote"}, {"cached: ", "remote cache hit"}, {"podman exec, ", "remote"},
	} {
		i := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, way.name) })
		if i < 0 || !strings.Contains(lines[i], "s   ") || !strings.Contains(lines[i], " "+way.did) {
			t.Errorf("no line says of %q what it did: %q", way.name, lines)
		}
	}
}
