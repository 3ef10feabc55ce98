package execution

import (
	"errors"
	"fmt"
	"slices"

	"github.com/hearth-build/hearth/runners"
)

// judge finds out whether the command's exit code says more than that it failed. A
// timeout or an end for lack of memory is no exit code of its own.
func (a *attempt) judge(res runners.Result, out *Outcome) {
	p, code := &a.job.platform, ExitCode(res)
	if res.TimedOut || res.Memory.Kills > 0 {
		return
	}
	if slices.Contains(p.CrashedCodes, code) {
		out.Again = fmt.Sprintf("exit code %d is one of %s", code, runners.PropertyCrashed)
		a.lease.Doubt("its last action says so: " + out.Again)
	}
	if slices.Contains(p.TransientCodes, code) {
		out.Again = fmt.Sprintf("exit code %d is one of %s", code, runners.PropertyTransient)
		// Unlike a broken runner, this may be over when the client tries again.
		if out.Err == nil {
			out.Err = fmt.Errorf("%w: %s", ErrTransient, out.Again)
		}
	}
}

// again reports whether a task may end otherwise when it is run again.
func (o *Outcome) again() bool { return o.Again != "" || errors.Is(o.Err, runners.ErrLost) }

// tried says of an outcome that it is the last of so many.
func (o *Outcome) tried(times int) *Outcome {
	if o.Err != nil {
		o.Err = fmt.Errorf("%w (the action was tried %d times)", o.Err, times)
	} else {
		o.Message = joinMessages(o.Message, fmt.Sprintf("The action was tried %d times: %s.", times, o.Again))
	}
	return o
}
