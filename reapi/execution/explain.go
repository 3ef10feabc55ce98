package execution

import (
	"fmt"
	"strings"

	"github.com/docker/go-units"

	"github.com/hearth-build/hearth/runners"
)

// ExitCode is the command's own, or 128 plus the signal that ended it, as
// shells have it.
func ExitCode(res runners.Result) int32 {
	if res.Signal != 0 {
		return 128 + int32(res.Signal)
	}
	return int32(res.ExitCode)
}

// explain says in words what a person cannot see from the exit code alone.
func (a *attempt) explain(res runners.Result) string {
	var b strings.Builder
	if res.Memory.Kills > 0 {
		b.WriteString(explainMemory(res.Memory))
	}
	if ExitCode(res) == 0 && !res.TimedOut {
		return b.String()
	}
	if res.Signal != 0 && !res.TimedOut {
		fmt.Fprintf(&b, "The command was ended by signal %d (%s). ", int(res.Signal), signalName(res))
	}
	info := a.lease.Info()
	fmt.Fprintf(&b, "It ran in container image %s, in runner %s (action %d of it)", a.job.platform.Image.Name, info.RunnerID, info.Runs)
	if info.ColdReason != "" {
		fmt.Fprintf(&b, ", started for it: %s", info.ColdReason)
	}
	b.WriteByte('.')
	return b.String()
}

// explainMemory names the lack of memory, and whether another limit would help.
func explainMemory(m runners.Memory) string {
	used := "memory"
	if m.Peak > 0 {
		used = units.BytesSize(float64(m.Peak)) + " at its peak"
	}
	killed := fmt.Sprintf("Out of memory (OOM): the kernel killed %d of the action's processes. ", m.Kills)
	const near = 0.9 // what is about to be used is not counted
	switch {
	case m.Limit == 0:
		return killed + fmt.Sprintf("Its runner used %s and has no limit: the host itself ran out. ", used)
	case m.Peak > 0 && float64(m.Peak) < near*float64(m.Limit):
		return killed + fmt.Sprintf("Its runner used %s, less than its limit of %s: the host itself ran out. ",
			used, units.BytesSize(float64(m.Limit)))
	default:
		return killed + fmt.Sprintf("Its runner used %s; the limit is %s (--runner-memory). ",
			used, units.BytesSize(float64(m.Limit)))
	}
}
