package e2e_test

import (
	"path/filepath"
	"testing"
	"time"
)

// TestKilledHearthLeavesNothing kills hearth in the middle of an action. The next
// hearth on its data directory removes what is left of the action, and has every
// result of before.
func TestKilledHearthLeavesNothing(t *testing.T) {
	const endless = "hearth-e2e-endless" // the name of the action's process
	dataDir := filepath.Join(shortTempDir(t), "data")
	first := startHearthOn(t, "/", dataDir)
	c := newBazel4(t, first)
	before := c.want(t, 0, []string{"build", "//genrules/..."}).processes(t)

	// Bazel goes on trying for a while after hearth is gone, then gives up.
	type ending struct {
		result
		err error
	}
	ended := make(chan ending, 1)
	go func() {
		r, err := c.exec(t.Context(), "build", "//odd:endless")
		ended <- ending{r, err}
	}()
	waitFor(t, "the action to run", func() bool { return len(processesWith(t, endless)) > 0 })
	first.kill(t)
	interrupted := <-ended
	if interrupted.err != nil {
		t.Fatal(interrupted.err)
	}
	if interrupted.exit == 0 {
		t.Errorf("Bazel succeeded without a server:\n%s", interrupted.output)
	}

	c.use(t, startHearthOn(t, "/", dataDir))
	if left := processesWith(t, endless); len(left) > 0 {
		t.Errorf("the killed hearth's action still runs: %q", left)
	}
	c.want(t, 0, []string{"clean"})
	after := c.want(t, 0, []string{"build", "//genrules/..."}).processes(t)
	if after["remote cache hit"] != before["remote"] {
		t.Errorf("after the crash the build ran %v, want all %d from the cache", after, before["remote"])
	}
	c.want(t, 0, []string{"build", "//cc/..."})
}

// waitFor waits until what is described has come true.
func waitFor(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(time.Minute)
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for !holds() {
		select {
		case <-again.C:
		case <-deadline:
			t.Fatalf("waited a minute for %s", what)
		}
	}
}
