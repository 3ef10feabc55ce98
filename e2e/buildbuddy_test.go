package e2e_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestBuildBuddy lets Bazel build and test the workspace on two workers of a stand-in
// for BuildBuddy's app, which is strict about the protocol, and takes workers away
// under it. Unlike Buildbarn's scheduler the app gives a task to another worker.
func TestBuildBuddy(t *testing.T) {
	const key = "the-api-key-of-the-test"
	root := sidRoot(t)
	storage := startHearth(t, root)
	address := strings.TrimPrefix(storage.endpoint(t), "grpc://")
	app := startScheduler(t, "buildbuddy", "../bin/buildbuddy-app", "-cas="+address, "-api-key="+key)
	keyFile := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(keyFile, []byte(key+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	top := t
	start := func(dataDir string) *worker {
		t.Helper()
		cmd := exec.Command(program(t), "worker", "--buildbuddy="+app, "--buildbuddy-api-key-file="+keyFile, "--cas="+storage.endpoint(t),
			"--slots=2", "--data-dir="+dataDir, "--host-root="+root, "--console=127.0.0.1:0", "--drain-timeout=1s", "--log-level=debug")
		return &worker{hearth: startAnnounced(top, dataDir, cmd, func() {}, func(h *hearth, _ string) bool { return h.console != "" })}
	}
	dirs := []string{filepath.Join(shortTempDir(t), "data"), filepath.Join(shortTempDir(t), "data")}
	first, second := start(dirs[0]), start(dirs[1])
	c := newBazel7(t, &hearth{bazelrc: fmt.Sprintf("build --remote_executor=grpc://%s\nbuild --remote_cache=%s\n"+
		"build --remote_default_exec_properties=recycle-runner=true\nbuild --jobs=8\n", app, storage.endpoint(t))})

	t.Run("BuildsAndTests", func(t *testing.T) {
		ran := c.want(t, 0, []string{"test", "//..."}, "5 tests pass.").processes(t)
		if ran["remote"] < 20 {
			t.Errorf("the build ran %v, want 20 or more remote", ran)
		}
		for i, w := range []*worker{first, second} {
			if len(w.actions(t)) == 0 {
				t.Errorf("worker %d ran nothing", i+1)
			}
		}
		c.want(t, 0, []string{"clean"})
		again := c.want(t, 0, []string{"test", "//..."}, "5 tests pass.").processes(t)
		const uncached = 2 // actions that say that they may not be cached
		if again["remote"] > uncached || again["remote cache hit"]+again["remote"] < ran["remote"] {
			t.Errorf("the second build ran %v, want all but %d from the cache, where the workers put it", again, uncached)
		}
		c.want(t, 3, []string{"test", "--test_output=errors", "//tests:fail_test"}, "standard output of the failing test")
	})
	t.Run("GivesBack", func(t *testing.T) {
		build := c.startSlow(t, "given_back", 4, "12.25")
		waitFor(t, "both workers to be busy", func() bool { return build.running(t) == 4 && first.busy(t) == 2 && second.busy(t) == 2 })
		first.stop(t)
		build.green(t)
		first = start(dirs[0])
	})
	t.Run("LosesAWorker", func(t *testing.T) {
		build := c.startSlow(t, "lost", 4, "6.25")
		waitFor(t, "both workers to be busy", func() bool { return build.running(t) == 4 && first.busy(t) == 2 && second.busy(t) == 2 })
		first.kill(t)
		build.green(t)
		// What the killed one left goes when another takes its place.
		first = start(dirs[0])
	})
	for _, w := range []*worker{first, second} {
		w.stop(t)
		if log, err := os.ReadFile(w.log); err != nil || strings.Contains(string(log), key) {
			t.Errorf("the API key was logged, or nothing: %v\n%s", err, log)
		}
	}
}
