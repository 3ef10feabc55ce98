package execserver

import (
	"syscall"
	"time"

	"github.com/hearth-build/hearth/execserver/execpb"
)

// request is the command on the wire.
func (c *Command) request() (*execpb.RunRequest, error) {
	size := 0
	pack := func(list []string) [][]byte {
		packed := make([][]byte, len(list))
		for i, s := range list {
			packed[i] = []byte(s)
			size += len(s) + 1 + 8
		}
		return packed
	}
	req := &execpb.RunRequest{
		Arguments:    pack(c.Args),
		Environment:  pack(c.Env),
		Directory:    []byte(c.Dir),
		Uid:          c.UID,
		Gid:          c.GID,
		TimeoutNanos: int64(c.Timeout),
		GraceNanos:   int64(c.Grace),
	}
	if size > maxArguments {
		return nil, &StartError{Reason: execpb.NotStarted_TOO_LARGE, Message: "arguments and environment are larger than the system takes; use a parameter file"}
	}
	return req, nil
}

// resultOf reads the last event of a run.
func resultOf(e *execpb.Exited) Result {
	u := e.GetUsage()
	return Result{
		ExitCode: int(e.ExitCode),
		Signal:   syscall.Signal(e.Signal),
		TimedOut: e.TimedOut,
		Duration: time.Duration(e.DurationNanos),
		Killed:   int(e.Killed),
		Usage: Usage{
			UserTime:            time.Duration(u.GetUserNanos()),
			SystemTime:          time.Duration(u.GetSystemNanos()),
			MaxRSS:              u.GetMaxRssBytes(),
			BlocksIn:            u.GetBlocksIn(),
			BlocksOut:           u.GetBlocksOut(),
			MinorFaults:         u.GetMinorFaults(),
			MajorFaults:         u.GetMajorFaults(),
			VoluntarySwitches:   u.GetVoluntarySwitches(),
			InvoluntarySwitches: u.GetInvoluntarySwitches(),
		},
	}
}

// message is the usage on the wire.
func (u *Usage) message() *execpb.Usage {
	return &execpb.Usage{
		UserNanos:           int64(u.UserTime),
		SystemNanos:         int64(u.SystemTime),
		MaxRssBytes:         u.MaxRSS,
		BlocksIn:            u.BlocksIn,
		BlocksOut:           u.BlocksOut,
		MinorFaults:         u.MinorFaults,
		MajorFaults:         u.MajorFaults,
		VoluntarySwitches:   u.VoluntarySwitches,
		InvoluntarySwitches: u.InvoluntarySwitches,
	}
}
