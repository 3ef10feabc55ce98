package podman_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hearth-build/hearth/runners"
	"github.com/hearth-build/hearth/runners/runnertest"
)

// TestExecServerThatEnds: the error has its exit code and last words, and
// nothing is left.
func TestExecServerThatEnds(t *testing.T) {
	opts := options(t.TempDir())
	b := open(t, opts)
	// Open asks the program what it is, so that another one is put in the place
	// of the copy that it made.
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatal(err)
	}
	copies, err := filepath.Glob(filepath.Join(opts.DataDir, "*", "execserver"))
	if err != nil || len(copies) != 1 {
		t.Fatalf("copies of the exec server: %v %v", copies, err)
	}
	if err := os.WriteFile(copies[0], busybox, 0o755); err != nil {
		t.Fatal(err)
	}
	spec := newSpec(t, b, runners.HostImage)
	in, err := b.Start(ctx(t), spec)
	if err == nil {
		(&runner{Instance: in, t: t, spec: spec}).remove()
	}
	if !errors.Is(err, runners.ErrLost) || !strings.Contains(err.Error(), "127") || !strings.Contains(err.Error(), "applet not found") {
		t.Errorf("start: %v", err)
	}
	nothingLeft(t, opts.DataDir, spec)
}

// TestStartIsCancelled at any moment: nothing is left.
func TestStartIsCancelled(t *testing.T) {
	opts := options(t.TempDir())
	b := open(t, opts)
	for _, patience := range []time.Duration{0, 10 * time.Millisecond, 30 * time.Millisecond, 60 * time.Millisecond, 90 * time.Millisecond} {
		spec := newSpec(t, b, runners.HostImage)
		c, cancel := context.WithTimeout(context.Background(), patience)
		in, err := b.Start(c, spec)
		cancel()
		if err == nil { // it was faster
			(&runner{Instance: in, t: t, spec: spec}).remove()
		} else if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("after %v: %v", patience, err)
		}
		nothingLeft(t, opts.DataDir, spec)
	}
}

func nothingLeft(t *testing.T, dataDir string, spec runners.Spec) {
	t.Helper()
	if left := containersOf(t, dataDir); left != "" {
		t.Errorf("containers: %s", left)
	}
	if entries, err := os.ReadDir(spec.Dir); len(entries) > 0 || err != nil {
		t.Errorf("left in the runner's directory: %v %v", entries, err)
	}
}

// TestNeedsRoot: an ordinary user is told what to do.
func TestNeedsRoot(t *testing.T) {
	dir := runnertest.PublicDir(t)
	program, err := os.ReadFile(testBinary(t))
	if err != nil {
		t.Fatal(err)
	}
	server, err := os.ReadFile(os.Getenv(envExecServer))
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"program": program, "server": server} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(filepath.Join(dir, "program"))
	cmd.Env = append(os.Environ(), envHelper+"="+dir, envExecServer+"="+filepath.Join(dir, "server"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "sudo") {
		t.Errorf("%v: %s", err, out)
	}
}
