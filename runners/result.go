package runners

import (
	"syscall"
	"time"

	"github.com/hearth-build/hearth/execserver"
)

// Usage is what a command and its descendants used, as they tell themselves.
type Usage = execserver.Usage

// Result says how a command that was started ended, and what it used.
type Result struct {
	// ExitCode is meaningful when Signal is 0.
	ExitCode int
	// Signal that ended the command, or 0.
	Signal syscall.Signal
	// TimedOut: it was killed since its timeout expired.
	TimedOut bool
	// Duration of the run by the clock that enforces the timeout.
	Duration time.Duration
	// Killed counts the processes beside the main one that were left at its
	// end, or when the timeout expired.
	Killed int
	// Usage of the command and all its descendants.
	Usage Usage
	// Memory and Disk are what the container's cgroup counted meanwhile; zero
	// where it is not asked.
	Memory Memory
	Disk   Disk
}

// Memory is about all of a container's memory while a command ran: that of its
// processes, the files in memory such as those in /tmp, and what is cached of
// other files.
type Memory struct {
	// Peak is the most there was, in bytes; 0: the host cannot tell.
	Peak int64
	// Limit in bytes; 0: none.
	Limit int64
	// Kills counts the processes that the kernel killed for lack of memory.
	Kills int
}

// Disk is what moved between memory and disks on behalf of a container.
type Disk struct {
	ReadBytes, WrittenBytes int64
	Reads, Writes           int64
}

// ResultOf is what the exec server knows of a result.
func ResultOf(r execserver.Result) Result {
	return Result{
		ExitCode: r.ExitCode,
		Signal:   r.Signal,
		TimedOut: r.TimedOut,
		Duration: r.Duration,
		Killed:   r.Killed,
		Usage:    r.Usage,
	}
}
