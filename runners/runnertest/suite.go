package runnertest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hearth-build/hearth/runners"
)

// Open returns a Backend that can run runners.HostImage with a shell and the
// usual commands. Called again with the same t it returns another Backend with
// the same data directory, as after a restart of hearth.
type Open func(t *testing.T) runners.Backend

// patience with what should take milliseconds, on a loaded machine.
const patience = 3 * time.Minute

// TestBackend is the suite that every Backend passes.
//
// A Backend whose Sweep looks for runners in one directory has a method
// RunnersDir() string that says in which.
func TestBackend(t *testing.T, open Open) {
	TestLifecycle(t, open)
	t.Run("processes", func(t *testing.T) {
		b := open(t)
		for name, test := range processTests() {
			t.Run(name, func(t *testing.T) { test(newBench(t, b)) })
		}
	})
}

// TestLifecycle is the part of TestBackend for which a runner only needs to
// know the command "sleep": what Fake passes, too.
func TestLifecycle(t *testing.T, open Open) {
	t.Run("lifecycle", func(t *testing.T) {
		b := open(t)
		for name, test := range lifecycleTests() {
			t.Run(name, func(t *testing.T) { test(newBench(t, b)) })
		}
	})
	t.Run("sweep", func(t *testing.T) { testSweep(t, open) })
	t.Run("many", func(t *testing.T) { testMany(t, open) })
}

// bench is what a test of one backend needs.
type bench struct {
	*testing.T
	runners.Backend
	dir  string
	made *int
}

func newBench(t *testing.T, b runners.Backend) *bench {
	t.Helper()
	made := 0
	return &bench{T: t, Backend: b, dir: runnersDir(t, b), made: &made}
}

// runnersDir is one whose files all users can reach.
func runnersDir(t *testing.T, b runners.Backend) string {
	t.Helper()
	if h, ok := b.(interface{ RunnersDir() string }); ok {
		return h.RunnersDir()
	}
	return PublicDir(t)
}

// PublicDir is a t.TempDir that other users than root can reach.
func PublicDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// runner is one instance under test.
type runner struct {
	*bench
	runners.Instance
	dir string
}

// spec of a runner that was not there before.
func (b *bench) spec() runners.Spec {
	b.Helper()
	image, err := b.Resolve(b.ctx(), runners.ImageRef{Name: runners.HostImage})
	if err != nil {
		b.Fatalf("resolve the host's image: %v", err)
	}
	*b.made++
	id := fmt.Sprintf("hearth-test-%d-%d-%d", os.Getpid(), time.Now().UnixNano(), *b.made)
	dir := filepath.Join(b.dir, id)
	if err := os.Mkdir(dir, 0o700); err != nil {
		b.Fatal(err)
	}
	return runners.Spec{ID: id, Image: image, Dir: dir, Network: runners.NetworkOff}
}

// start a runner, which is removed at the end of the test.
func (b *bench) start() *runner {
	b.Helper()
	spec := b.spec()
	in, err := b.Start(b.ctx(), spec)
	if err != nil {
		b.Fatalf("start: %v", err)
	}
	r := &runner{bench: b, Instance: in, dir: spec.Dir}
	b.Cleanup(r.remove)
	return r
}

// ctx bounds what the tests wait for.
func (b *bench) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	b.Cleanup(cancel)
	return ctx
}

// remove removes the runner and checks that nothing is left but its work directory.
func (r *runner) remove() {
	r.Helper()
	if err := r.Remove(r.ctx()); err != nil {
		r.Errorf("remove: %v", err)
	}
	entries, err := os.ReadDir(r.dir)
	if err != nil && !os.IsNotExist(err) {
		r.Error(err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), runners.WorkDirName) {
			r.Errorf("%s is left in the runner's directory", e.Name())
		}
	}
	if err := os.RemoveAll(r.dir); err != nil {
		r.Errorf("the runner's directory cannot be removed: %v", err)
	}
}

// work is the work directory on the host.
func (r *runner) work(name string) string { return filepath.Join(r.dir, runners.WorkDirName, name) }

// shell is a command that runs a script as root in the work directory.
func shell(script string) runners.Command {
	return runners.Command{Args: []string{"/bin/sh", "-c", script}, Dir: runners.ContainerWorkDir, Env: []string{"PATH=/usr/bin:/bin"}}
}

// run runs a command that must be started, and returns what it wrote to stdout.
func (r *runner) run(cmd runners.Command) (runners.Result, string) {
	r.Helper()
	var stdout, stderr bytes.Buffer
	res, err := r.Run(r.ctx(), cmd, &stdout, &stderr)
	if err != nil {
		r.Fatalf("run %q: %v", cmd.Args, err)
	}
	if stderr.Len() > 0 {
		r.Logf("%q wrote to stderr: %s", cmd.Args, &stderr)
	}
	return res, stdout.String()
}

// ok runs a script that must succeed.
func (r *runner) ok(script string) string {
	r.Helper()
	res, out := r.run(shell(script))
	if res.ExitCode != 0 || res.Signal != 0 {
		r.Fatalf("%s: %+v", script, res)
	}
	return out
}

// background runs a command until stop is called, which returns its error.
func (r *runner) background(cmd runners.Command) (stop func() error) {
	ctx, cancel := context.WithCancel(r.ctx())
	done := make(chan error, 1)
	go func() {
		_, err := r.Run(ctx, cmd, io.Discard, io.Discard)
		done <- err
	}()
	ended := false
	var err error
	stop = func() error {
		cancel()
		if !ended {
			err, ended = <-done, true
		}
		return err
	}
	r.Cleanup(func() { _ = stop() }) // for tests that fail before they do
	return stop
}

// await polls a condition.
func (b *bench) await(what string, condition func() bool) {
	b.Helper()
	err := until(b.ctx(), func() (bool, error) { return condition(), nil })
	if err != nil {
		b.Fatalf("%s: waited in vain", what)
	}
}

// size of a file that a command makes, 0 before it does.
func (r *runner) size(name string) int64 {
	info, err := os.Stat(r.work(name))
	if err != nil {
		return 0
	}
	return info.Size()
}

// grows waits until a file grows.
func (r *runner) grows(name string) {
	r.Helper()
	before := r.size(name)
	r.await(name+" grows", func() bool { return r.size(name) > before })
}

// rests checks that a file does not grow, which takes a moment to see: its
// writer would add a line per millisecond or so.
func (r *runner) rests(name string) {
	r.Helper()
	before := r.size(name)
	<-time.After(200 * time.Millisecond)
	if after := r.size(name); after != before {
		r.Errorf("%s grew from %d to %d bytes", name, before, after)
	}
}

// writer is a script that makes a file grow for ever.
func writer(name string) string {
	return "while :; do echo x >> " + name + "; done"
}
