package execserver_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// When memory runs out the kernel ends a command before the server.
func TestCommandsAreExpendable(t *testing.T) {
	s := startServer(t, options{shell: "echo 7 > /proc/self/oom_score_adj;"})
	own := func() string {
		score, err := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", s.pid))
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(score))
	}
	for _, uid := range []uint32{0, nobody} {
		cmd := shell("cat /proc/self/oom_score_adj")
		cmd.UID, cmd.GID = uid, uid
		if got := s.ok(t, cmd); got != "1000\n" {
			t.Errorf("user %d: the command's score is %q", uid, got)
		}
	}
	if got := own(); got != "7" {
		t.Errorf("the server's score is %s", got)
	}
	cmd := shell("")
	cmd.Args[0] = "/no/such/program"
	if _, err := s.try(t, cmd); err == nil || own() != "7" {
		t.Errorf("after a command that cannot be run: %v, the server's score is %s", err, own())
	}
}
