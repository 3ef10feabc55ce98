package execution

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/hearth-build/hearth/runners"
)

// exitCode is the command's own, or 128 plus the signal that ended it, as
// shells have it.
func exitCode(res runners.Result) int32 {
	if res.Signal != 0 {
		return 128 + int32(res.Signal)
	}
	return int32(res.ExitCode)
}

// explain says in words what a person cannot see from the exit code alone.
func (a *attempt) explain(res runners.Result) string {
	if exitCode(res) == 0 && !res.TimedOut {
		return ""
	}
	var b strings.Builder
	if res.Signal != 0 && !res.TimedOut {
		fmt.Fprintf(&b, "The command was ended by signal %d (%s). ", int(res.Signal), unix.SignalName(res.Signal))
	}
	info := a.lease.Info()
	fmt.Fprintf(&b, "It ran in container image %s, in runner %s (action %d of it)", a.job.platform.Image.Name, info.RunnerID, info.Runs)
	if info.ColdReason != "" {
		fmt.Fprintf(&b, ", started for it: %s", info.ColdReason)
	}
	b.WriteByte('.')
	return b.String()
}
