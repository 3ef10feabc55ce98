package e2e_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestBuildbarn lets Bazel build and test the workspace on two workers of a Buildbarn
// cluster, whose scheduler is the real one, and loses workers under it.
func TestBuildbarn(t *testing.T) {
	cluster := startCluster(t, sidRoot(t))
	dirs := []string{filepath.Join(shortTempDir(t), "data"), filepath.Join(shortTempDir(t), "data")}
	const patience = "--drain-timeout=1s" // less than slow actions take
	top := t
	first, second := cluster.startWorker(t, dirs[0], patience), cluster.startWorker(t, dirs[1], patience)
	c := newBazel7(t, &hearth{bazelrc: cluster.bazelrc(t)})

	t.Run("BuildsAndTests", func(t *testing.T) {
		ran := c.want(t, 0, []string{"test", "//..."}, "5 tests pass.").processes(t)
		if ran["remote"] < 20 {
			t.Errorf("the build ran %v, want 20 or more remote", ran)
		}
		for i, w := range []*worker{first, second} {
			if len(w.actions(t)) == 0 {
				t.Errorf("worker %d ran nothing", i+1)
			}
			w.showsWhatItRan(t)
		}
		c.want(t, 0, []string{"clean"})
		again := c.want(t, 0, []string{"test", "//..."}, "5 tests pass.").processes(t)
		const uncached = 2 // actions that say that they may not be cached
		if again["remote"] > uncached || again["remote cache hit"]+again["remote"] < ran["remote"] {
			t.Errorf("the second build ran %v, want all but %d from the cache, where the workers put it", again, uncached)
		}
		c.want(t, 3, []string{"test", "--test_output=errors", "//tests:fail_test"}, "standard output of the failing test")
	})
	t.Run("HandsBack", func(t *testing.T) {
		build := c.startSlow(t, "handed_back", 4, "12.25")
		waitFor(t, "both workers to be busy", func() bool { return build.running(t) == 4 && first.busy(t) == 2 && second.busy(t) == 2 })
		first.stop(t)
		build.green(t)
		first = cluster.startWorker(top, dirs[0], patience)
	})
	t.Run("LosesWorkers", func(t *testing.T) {
		build := c.startSlow(t, "lost", 8, "6.25")
		waitFor(t, "both workers to be busy", func() bool { return build.running(t) == 4 && first.busy(t) == 2 && second.busy(t) == 2 })
		first.kill(t)
		second.cut(t)
		<-time.After(10 * time.Second) // the network is away for so long
		second.mend(t)
		build.green(t)
		// What the killed one left goes when another takes its place.
		first = cluster.startWorker(top, dirs[0], patience)
	})
	for _, w := range []*worker{first, second} {
		w.stop(t)
	}
}

// showsWhatItRan: the console of a worker has the same as that of a server, from the
// cluster's storage.
func (w *worker) showsWhatItRan(t *testing.T) {
	t.Helper()
	if overview := w.json(t, "/"); !strings.Contains(overview, `"worker":true`) {
		t.Errorf("its overview: %s", overview)
	}
	for _, a := range w.actions(t)[:1] {
		about := w.json(t, "/actions/"+a.Digest)
		for _, part := range []string{`"arguments":[`, `"inputs":[`, `"outputs":[`, `grpc://FRONTEND`, `"By podman alone"`} {
			if !strings.Contains(about, part) {
				t.Errorf("%s is not told of action %s: %s", part, a.Digest, about)
			}
		}
		if strings.Contains(about, `"problem"`) {
			t.Errorf("action %s: %s", a.Digest, about)
		}
	}
	w.json(t, "/store")
}

// slowBuild is a build of actions that take a while.
type slowBuild struct {
	name, seconds string
	count         int
	ended         chan slowEnd
	c             *client
}

type slowEnd struct {
	result
	err error
}

// startSlow starts a build of so many actions that take so many seconds. Each fails if
// another is in its container at the same time.
func (c *client) startSlow(t *testing.T, name string, count int, seconds string) *slowBuild {
	t.Helper()
	var rules strings.Builder
	for i := range count {
		fmt.Fprintf(&rules, "genrule(name = \"r%d\", outs = [\"r%d.txt\"], cmd = \"mkdir /tmp/alone && sleep %s && rmdir /tmp/alone && echo %d > $@\")\n", i, i, seconds, i)
	}
	c.addPackage(t, name, map[string]string{"BUILD.bazel": rules.String()})
	b := &slowBuild{name: name, seconds: seconds, count: count, ended: make(chan slowEnd, 1), c: c}
	go func() { // ends with Bazel, for which green waits, or with the test
		r, err := c.exec(t.Context(), "build", "--verbose_failures", "//"+name+"/...")
		b.ended <- slowEnd{r, err}
	}()
	return b
}

// running is how many of the build's actions run.
func (b *slowBuild) running(t *testing.T) int {
	t.Helper()
	running := 0
	for _, line := range processesWith(t, b.seconds) {
		if strings.Contains(line, " sleep "+b.seconds) && !strings.Contains(line, "/tmp/alone") {
			running++
		}
	}
	return running
}

// green waits for the build to succeed.
func (b *slowBuild) green(t *testing.T) {
	t.Helper()
	end := <-b.ended
	if end.err != nil || end.exit != 0 {
		t.Fatalf("the build ended with %d (%v):\n%s", end.exit, end.err, end.output)
	}
	t.Logf("the build took %v", end.elapsed)
	for i := range b.count {
		if got := b.c.read(t, fmt.Sprintf("bazel-bin/%s/r%d.txt", b.name, i)); got != fmt.Sprintf("%d\n", i) {
			t.Errorf("the output of action %d is %q", i, got)
		}
	}
}
