package e2e_test

import (
	"strings"
	"testing"
)

// What a user of Bazel reads when something is wrong. The texts are parts of
// what hearth says; Bazel adds the label and the place in the BUILD file.

// REAPI K20
func showsTheFailedAction(t *testing.T, c *client) {
	c.want(t, 1, []string{"build", "//broken:exit_seven"},
		"(Exit 7)", "words on standard output", "words on standard error")
}

// REAPI K27
func showsTheMissingOutput(t *testing.T, c *client) {
	r := c.run(t, "build", "//broken:no_output")
	// Bazel 4 compares afterwards what it wanted with what there is; Bazel 7 looks
	// into the action's result and blames the remote execution.
	bazel4 := r.exit == 1 && strings.Contains(r.output, "not all outputs were created")
	bazel7 := r.exit == remoteError && strings.Contains(r.output, "mandatory output broken/no_output.txt was not created")
	if !bazel4 && !bazel7 {
		t.Errorf("Bazel ended with %d and did not say which output is missing:\n%s", r.exit, r.output)
	}
}

// REAPI F51: the action cannot run, rather than ran and failed.
func explainsTheMissingProgram(t *testing.T, c *client) {
	c.want(t, remoteError, []string{"build", "//broken:missing_program"},
		"cannot run /no/such/program: no such file or directory", "container image host")
}

func explainsTheUnknownIsolation(t *testing.T, c *client) {
	c.want(t, remoteError, []string{"build", "//broken:unknown_isolation"},
		"workload-isolation-type", "firecraker", "podman")
}

func explainsTheMissingImage(t *testing.T, c *client) {
	c.want(t, remoteError, []string{"build", "//broken:missing_image"},
		"localhost/hearth-e2e/no-such-image:1")
}

// remoteError is how Bazel ends when not the action but its execution failed.
const remoteError = 34
