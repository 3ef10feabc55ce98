package e2e_test

import "testing"

// What a user of Bazel reads when something is wrong. The texts are parts of
// what hearth says; Bazel adds the label and the place in the BUILD file.

func showsTheFailedAction(t *testing.T, c *client) {
	c.want(t, 1, []string{"build", "//broken:exit_seven"},
		"(Exit 7)", "words on standard output", "words on standard error")
}

func showsTheMissingOutput(t *testing.T, c *client) {
	c.want(t, 1, []string{"build", "//broken:no_output"},
		"//broken:no_output", "not all outputs were created")
}

func explainsTheMissingProgram(t *testing.T, c *client) {
	c.want(t, 1, []string{"build", "//broken:missing_program"}, "/no/such/program")
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
