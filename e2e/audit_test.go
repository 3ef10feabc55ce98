package e2e_test

import (
	"strings"
	"testing"
)

// The audit finds an action whose output depends on a file that an earlier one left
// in $HOME, and says nothing of one that does not.
func TestAudit(t *testing.T) {
	h := startHearthWith(t, "/", recycling, "--audit-rate=1")
	c := newCaller(t, h)
	root, props := c.tree(nil), []string{"dockerRunAsRoot"}
	const home = "export HOME=/opt/home; mkdir -p $HOME; "
	c.run(root, props, home+"touch $HOME/left") // in a new runner
	c.run(root, props, home+"ls -A $HOME > out", "out")
	c.run(root, props, "echo same > out", "out")
	c.run(root, props, "date +%N > out", "out")
	audit := func() ended { return h.order(t, "audit").want(t, 0) }
	waitFor(t, "all are audited", func() bool {
		out := audit().stdout
		for _, line := range []string{"same         1 ", "leaks        1 ", "unsteady     1 "} {
			if !strings.Contains(out, line) {
				return false
			}
		}
		return true
	})
	audit().want(t, 0, "leak         ", "ls -A $HOME", "its action number 2", "file out: ", "in a new runner", "date +%N")
	h.order(t, "audit", "--json").want(t, 0, `"recycled"`, `"fresh"`, `"outputFiles"`)
	plain := startHearthWith(t, "/", recycling)
	plain.order(t, "audit").want(t, 1, "nothing is audited there", "--audit-rate")
}
