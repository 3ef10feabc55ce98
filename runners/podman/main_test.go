package podman_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hearth-build/hearth/runners"
	"github.com/hearth-build/hearth/runners/podman"
	"github.com/hearth-build/hearth/runners/runnertest"
)

// What this binary hands to itself: the exec server, and what to do instead of
// running tests.
const (
	envExecServer = "HEARTH_TEST_EXECSERVER"
	envHelper     = "HEARTH_TEST_HELPER"
)

func TestMain(m *testing.M) {
	if os.Getenv(envHelper) != "" {
		crashHelper()
		return
	}
	os.Exit(mainWithExecServer(m))
}

// mainWithExecServer builds the exec server, unless this runs where there is no
// compiler and somebody did it before.
func mainWithExecServer(m *testing.M) int {
	if os.Getenv(envExecServer) == "" {
		dir, err := os.MkdirTemp("", "hearth-podman-test-")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		path, err := runnertest.BuildExecServer(dir)
		if err != nil {
			panic(err)
		}
		os.Setenv(envExecServer, path)
	}
	return m.Run()
}

// patience with what should take milliseconds, on a loaded machine.
const patience = 60 * time.Second

// ctx bounds what a test waits for.
func ctx(t testing.TB) context.Context {
	c, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return c
}

func options(dataDir string) podman.Options {
	return podman.Options{DataDir: dataDir, ExecServer: os.Getenv(envExecServer)}
}

// open opens a Backend that is closed at the end of the test.
func open(t testing.TB, opts podman.Options) *podman.Backend {
	t.Helper()
	b, err := podman.Open(ctx(t), opts)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() { closeBackend(t, b) })
	return b
}

func closeBackend(t testing.TB, b *podman.Backend) {
	t.Helper()
	c, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := b.Close(c); err != nil {
		t.Errorf("close: %v", err)
	}
}

// runner is an instance under test.
type runner struct {
	runners.Instance
	t    testing.TB
	spec runners.Spec
}

// start starts a runner, which is removed at the end of the test.
func start(t testing.TB, b *podman.Backend, image string) *runner {
	t.Helper()
	return startRef(t, b, runners.ImageRef{Name: image})
}

func startRef(t testing.TB, b *podman.Backend, ref runners.ImageRef) *runner {
	t.Helper()
	spec := newSpecOf(t, b, ref)
	in, err := b.Start(ctx(t), spec)
	if err != nil {
		t.Fatalf("start: %v", err)
	}
	r := &runner{Instance: in, t: t, spec: spec}
	t.Cleanup(r.remove)
	return r
}

func newSpec(t testing.TB, b *podman.Backend, image string) runners.Spec {
	t.Helper()
	return newSpecOf(t, b, runners.ImageRef{Name: image})
}

func newSpecOf(t testing.TB, b *podman.Backend, ref runners.ImageRef) runners.Spec {
	t.Helper()
	resolved, err := b.Resolve(ctx(t), ref)
	if err != nil {
		t.Fatalf("resolve %s: %v", ref, err)
	}
	id := fmt.Sprintf("hearth-test-%d-%d", os.Getpid(), time.Now().UnixNano())
	dir := filepath.Join(b.RunnersDir(), id)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return runners.Spec{ID: id, Image: resolved, Dir: dir, Network: runners.NetworkOff}
}

func (r *runner) remove() {
	r.t.Helper()
	c, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := r.Remove(c); err != nil {
		r.t.Errorf("remove: %v", err)
	}
}

// work is a path in the work directory on the host.
func (r *runner) work(name string) string {
	return filepath.Join(r.spec.Dir, runners.WorkDirName, name)
}

// shell is a script that nobody runs.
func shell(script string) runners.Command {
	return runners.Command{
		Args: []string{"/bin/sh", "-c", script}, Dir: "/",
		Env: []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}, UID: 65534, GID: 65534,
	}
}

func asRoot(script string) runners.Command {
	cmd := shell(script)
	cmd.UID, cmd.GID = 0, 0
	return cmd
}

// run runs a command that must exit with 0, and returns what it printed.
func (r *runner) run(cmd runners.Command) string {
	r.t.Helper()
	var stdout, stderr bytes.Buffer
	res, err := r.Run(ctx(r.t), cmd, &stdout, &stderr)
	if err != nil {
		r.t.Fatalf("run %q: %v", cmd.Args, err)
	}
	if res.ExitCode != 0 || res.Signal != 0 {
		r.t.Fatalf("run %q: %+v: %s", cmd.Args, res, &stderr)
	}
	return stdout.String()
}

// await polls a condition.
func await(t testing.TB, what string, condition func() bool) {
	t.Helper()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.Now().Add(patience); !condition(); <-ticker.C {
		if time.Now().After(deadline) {
			t.Fatalf("%s: waited in vain for %v", what, patience)
		}
	}
}
