package e2e_test

import (
	"os/exec"
	"path/filepath"
	"strconv"
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

// TestDemo: what `make demo` shows, of fewer actions. How long each build takes is no
// matter of tests.
func TestDemo(t *testing.T) {
	program(t)
	ways := []string{"cold", "cached", "spare", "podman-exec"}
	out := runProgram(t, "", setup(t, "demo.sh"), "--libraries=1", "--genrules=3", "--jobs=2", "--dir="+shortTempDir(t), "--way="+strings.Join(ways, ",")).want(t, 0)
	lines := strings.Split(strings.TrimSpace(out.stdout), "\n")
	if len(lines) != len(ways)+1 {
		t.Fatalf("it printed %q, want a heading and %d lines", out.stdout, len(ways))
	}
	for i, way := range ways {
		fields := strings.Fields(lines[i+1])
		if len(fields) < 4 || fields[0] != way || !strings.HasSuffix(fields[1], "s") {
			t.Errorf("line %d is %q, want how long %s took", i+1, lines[i+1], way)
			continue
		}
		if n, err := strconv.Atoi(fields[2]); err != nil || n < 5 {
			t.Errorf("%s ran %q actions, want 5 at least", way, fields[2])
		}
	}
}
