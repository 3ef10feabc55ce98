package runnertest

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/hearth-build/hearth/runners"
)

func lifecycleTests() map[string]func(*bench) {
	return map[string]func(*bench){
		"resolve":              testResolve,
		"work directory":       testWorkDirectory,
		"failed start":         testFailedStart,
		"freeze and thaw":      testFreezeAndThaw,
		"remove when idle":     func(b *bench) { b.start().remove() },
		"remove when frozen":   testRemoveFrozen,
		"remove when busy":     testRemoveBusy,
		"remove twice":         testRemoveTwice,
		"run after remove":     testRunAfterRemove,
		"remove with no time":  testRemoveWithNoTime,
		"usable after a sweep": testSweepSparesItsOwn,
	}
}

func testResolve(b *bench) {
	ref := runners.ImageRef{Name: runners.HostImage}
	first, err := b.Resolve(b.ctx(), ref)
	if err != nil || first.ID == "" || first.Name != ref.Name {
		b.Fatalf("resolve: %+v %v", first, err)
	}
	if again, err := b.Resolve(b.ctx(), ref); err != nil || again.ID != first.ID {
		b.Errorf("resolve again: %+v %v, was %+v", again, err, first)
	}
}

func testWorkDirectory(b *bench) {
	r := b.start()
	info, err := os.Stat(r.work(""))
	if err != nil || !info.IsDir() || info.Mode().Perm() != 0o755 {
		b.Errorf("work directory: %v %v", info, err)
	}
}

// testFailedStart: the directory that a runner needs is not there.
func testFailedStart(b *bench) {
	spec := b.spec()
	if err := os.Remove(spec.Dir); err != nil {
		b.Fatal(err)
	}
	if in, err := b.Start(b.ctx(), spec); err == nil {
		b.Errorf("start: no error, remove: %v", in.Remove(b.ctx()))
	}
	// Nothing was left behind that is in the way of another try.
	if err := os.Mkdir(spec.Dir, 0o700); err != nil {
		b.Fatal(err)
	}
	in, err := b.Start(b.ctx(), spec)
	if err != nil {
		b.Fatalf("start after a failed one: %v", err)
	}
	(&runner{bench: b, Instance: in, dir: spec.Dir}).remove()
}

func testFreezeAndThaw(b *bench) {
	r := b.start()
	for range 3 {
		if err := r.Freeze(b.ctx()); err != nil {
			b.Fatalf("freeze: %v", err)
		}
		if err := r.Thaw(b.ctx()); err != nil {
			b.Fatalf("thaw: %v", err)
		}
	}
	r.run(runners.Command{Args: []string{"sleep", "0"}, Dir: runners.ContainerWorkDir})
}

func testRemoveFrozen(b *bench) {
	r := b.start()
	if err := r.Freeze(b.ctx()); err != nil {
		b.Fatalf("freeze: %v", err)
	}
	r.remove()
}

func testRemoveBusy(b *bench) {
	r := b.start()
	stop := r.background(runners.Command{Args: []string{"sleep", "3600"}, Dir: runners.ContainerWorkDir})
	r.remove()
	if err := stop(); err == nil {
		b.Error("a command whose runner was removed ended without an error")
	}
}

func testRemoveTwice(b *bench) {
	r := b.start()
	r.remove()
	if err := r.Remove(b.ctx()); err != nil {
		b.Errorf("remove again: %v", err)
	}
	r = b.start()
	var both sync.WaitGroup
	for range 2 {
		both.Go(func() {
			if err := r.Remove(b.ctx()); err != nil {
				b.Errorf("remove at the same time: %v", err)
			}
		})
	}
	both.Wait()
}

func testRunAfterRemove(b *bench) {
	r := b.start()
	r.remove()
	res, err := r.Run(b.ctx(), runners.Command{Args: []string{"sleep", "0"}, Dir: runners.ContainerWorkDir}, &strings.Builder{}, &strings.Builder{})
	if start := (*runners.StartError)(nil); err == nil || (errors.As(err, &start) && !start.Fault()) {
		b.Errorf("run after remove: %+v %v", res, err)
	}
}

// testRemoveWithNoTime: an attempt that is cut short can be repeated.
func testRemoveWithNoTime(b *bench) {
	r := b.start()
	ctx := cancelled()
	if err := r.Remove(ctx); err != nil {
		b.Logf("remove with no time: %v", err)
	}
	r.remove()
}

func testSweepSparesItsOwn(b *bench) {
	r := b.start()
	if _, err := b.Sweep(b.ctx()); err != nil {
		b.Errorf("sweep: %v", err)
	}
	r.run(runners.Command{Args: []string{"sleep", "0"}, Dir: runners.ContainerWorkDir})
}

// testSweep: a Backend that is gone left an idle, a frozen and a busy runner.
func testSweep(t *testing.T, open Open) {
	old := newBench(t, open(t))
	var left []*runner
	for range 3 {
		spec := old.spec()
		in, err := old.Start(old.ctx(), spec)
		if err != nil {
			t.Fatalf("start: %v", err)
		}
		left = append(left, &runner{bench: old, Instance: in, dir: spec.Dir})
	}
	if err := left[1].Freeze(old.ctx()); err != nil {
		t.Fatalf("freeze: %v", err)
	}
	stop := left[2].background(runners.Command{Args: []string{"sleep", "3600"}, Dir: runners.ContainerWorkDir})
	next := newBench(t, open(t))
	if n, err := next.Sweep(next.ctx()); err != nil || n < len(left) {
		t.Errorf("sweep: %d %v, want at least %d", n, err, len(left))
	}
	if err := stop(); err == nil {
		t.Error("a command whose runner was swept away ended without an error")
	}
	if n, err := next.Sweep(next.ctx()); err != nil || n != 0 {
		t.Errorf("sweep again: %d %v", n, err)
	}
	for _, r := range left {
		r.remove() // of what is gone
	}
	next.start().remove()
}

// testMany: what comes and goes leaves nothing in this process or on the host.
func testMany(t *testing.T, open Open) {
	b := newBench(t, open(t))
	b.start().remove() // what is made once and stays
	before := census(t)
	const count, some = 50, 8 // some is room for pools of connections
	var all sync.WaitGroup
	for range count {
		spec := b.spec()
		all.Go(func() {
			in, err := b.Start(b.ctx(), spec)
			if err != nil {
				t.Errorf("start: %v", err)
				return
			}
			(&runner{bench: b, Instance: in, dir: spec.Dir}).remove()
		})
	}
	all.Wait()
	var after map[string]int
	enough := func() bool {
		after = census(t)
		for what, n := range before {
			if after[what] > n+some {
				return false
			}
		}
		return true
	}
	b.await(fmt.Sprintf("%d runners leave as much as was there before them (%v)", count, before), enough)
	t.Logf("before %v, after %v", before, after)
}

// census counts what runners use.
func census(t *testing.T) map[string]int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	return map[string]int{
		"goroutines":       runtime.NumGoroutine(),
		"file descriptors": len(fds),
		"mounts":           strings.Count(string(mounts), "\n"),
	}
}
