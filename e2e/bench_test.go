package e2e_test

import (
	"os/exec"
	"path/filepath"
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
