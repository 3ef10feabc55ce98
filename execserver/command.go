package execserver

import (
	"fmt"
	"syscall"
	"time"

	"github.com/hearth-build/hearth/execserver/execpb"
)

// Command is what to run.
type Command struct {
	// Args with argv[0], which is looked up in the PATH of Env (or DefaultPath)
	// if it has no slash, and is relative to Dir if it has one inside.
	Args []string
	// Env as NAME=VALUE; the command gets this and nothing else.
	Env []string
	// Dir is the working directory, absolute inside the container.
	Dir string
	// UID and GID to run as, without supplementary groups.
	UID, GID uint32
	// Timeout from the start of the command; 0: none.
	Timeout time.Duration
	// Grace between SIGTERM and SIGKILL at a timeout; 0: SIGKILL at once.
	Grace time.Duration
}

// DefaultPath is where argv[0] is searched when Env has no PATH.
const DefaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Result says how a command that was started ended.
type Result struct {
	// ExitCode is meaningful when Signal is 0.
	ExitCode int
	// Signal that ended the command, or 0.
	Signal syscall.Signal
	// TimedOut: it was killed since Timeout expired.
	TimedOut bool
	// Duration of the run by the clock that enforces the timeout.
	Duration time.Duration
	// Killed counts the processes beside the main one that were left at its
	// end, or when the timeout expired, but for those whose parent reaped them
	// while both died.
	Killed int
	// Usage of the command and all its descendants.
	Usage Usage
}

// Usage is what a command and its descendants used.
type Usage struct {
	UserTime, SystemTime time.Duration
	// MaxRSS in bytes, of the largest process. It is never less than the exec
	// server's own, about 8 MB: Linux counts what a process was before its exec.
	MaxRSS int64
	// BlocksIn and BlocksOut are blocks of 512 bytes that disks had to move.
	BlocksIn, BlocksOut      int64
	MinorFaults, MajorFaults int64
	VoluntarySwitches        int64
	InvoluntarySwitches      int64
}

// StartError says why a command was not started. A Reason of FAULT means that
// the runner is broken; all others are the command's own mistake.
type StartError struct {
	Reason  execpb.NotStarted_Reason
	Message string
}

// Error implements error.
func (e *StartError) Error() string { return fmt.Sprintf("command not started: %s", e.Message) }

// Fault reports whether the runner is to blame, and not the command.
func (e *StartError) Fault() bool { return e.Reason == execpb.NotStarted_FAULT }
