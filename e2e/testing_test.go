package e2e_test

import (
	"archive/zip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func runsTests(t *testing.T, c *client) {
	r := c.want(t, 0, []string{"test", "//..."}, "5 tests pass.")
	if ran := r.processes(t); ran["remote"] < 7 { // one of the five has three shards
		t.Errorf("%d processes of the tests ran remotely, want 7 or more: %v", ran["remote"], ran)
	}
	if log := c.read(t, "bazel-testlogs/tests/pass_test/test.log"); !strings.Contains(log, "the passing test ran\n") {
		t.Errorf("the log of the test is %q", log)
	}
	if log := c.read(t, "bazel-testlogs/cc/greeting_test/test.log"); !strings.Contains(log, "got Hello, BAZEL!\n") {
		t.Errorf("the log of the C++ test is %q", log)
	}
}

func keepsLogsOfShards(t *testing.T, c *client) {
	for shard := 1; shard <= 3; shard++ {
		log := c.read(t, fmt.Sprintf("bazel-testlogs/tests/sharded_test/shard_%d_of_3/test.log", shard))
		if want := fmt.Sprintf("shard %d of 3\n", shard); !strings.Contains(log, want) {
			t.Errorf("the log of shard %d is %q, want %q in it", shard, log, want)
		}
	}
}

func keepsUndeclaredOutputs(t *testing.T, c *client) {
	outputs, err := zip.OpenReader(filepath.Join(c.workspace, "bazel-testlogs/tests/outputs_test/test.outputs/outputs.zip"))
	if err != nil {
		t.Fatal(err)
	}
	defer outputs.Close()
	note, err := outputs.Open("note.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer note.Close()
	if text, err := io.ReadAll(note); err != nil || string(text) != "an undeclared output\n" {
		t.Errorf("the undeclared output is %q (%v)", text, err)
	}
}

func runsTestsRepeatedly(t *testing.T, c *client) {
	r := c.want(t, 0, []string{"test", "--runs_per_test=3", "//tests:pass_test"}, "Stats over 3 runs", "1 test passes.")
	if ran := r.processes(t); ran["remote"] < 3 { // Bazel adds actions that write test.xml
		t.Errorf("processes: %v, want the 3 runs remote", ran)
	}
}

func showsTheFailedTest(t *testing.T, c *client) {
	c.want(t, 3, []string{"test", "--test_output=errors", "//tests:fail_test"},
		"FAILED in", "standard output of the failing test", "standard error of the failing test")
}

// stopsTheSlowTest: what the test wrote before its timeout is kept. // REAPI F34
func stopsTheSlowTest(t *testing.T, c *client) {
	r := c.want(t, 3, []string{"test", "--test_timeout=2", "//tests:slow_test"}, "TIMEOUT in 2.")
	if r.elapsed > time.Minute {
		t.Errorf("the test with a timeout of 2 s took %v", r.elapsed)
	}
	if log := c.read(t, "bazel-testlogs/tests/slow_test/test.log"); !strings.Contains(log, "the slow test began\n") {
		t.Errorf("the log of the slow test is %q, want what it wrote in it", log)
	}
}

// runsTheFlakyTestAgain: a failed attempt is not cached, so that the same action
// runs again and can pass.
func runsTheFlakyTestAgain(t *testing.T, c *client) {
	const firstAttempt = 15 * time.Second // more than Bazel takes to start it
	before := time.Now().Add(firstAttempt).Unix()
	c.want(t, 0, []string{"test", fmt.Sprintf("--test_env=FAIL_BEFORE=%d", before), "//tests:flaky_test"},
		"FLAKY, failed in 1 out of 2")
	log := c.read(t, "bazel-testlogs/tests/flaky_test/test_attempts/attempt_1.log")
	if !strings.Contains(log, "this attempt fails\n") {
		t.Errorf("the log of the first attempt is %q", log)
	}
	if log := c.read(t, "bazel-testlogs/tests/flaky_test/test.log"); !strings.Contains(log, "this attempt passes\n") {
		t.Errorf("the log of the last attempt is %q", log)
	}
}

func saysThatThereAreNoTests(t *testing.T, c *client) {
	c.want(t, 4, []string{"test", "//genrules/..."}, "No test targets were found")
	if _, err := os.Stat(filepath.Join(c.workspace, "bazel-bin/genrules/joined.txt")); err != nil {
		t.Errorf("the targets that are no tests were not built: %v", err)
	}
}
