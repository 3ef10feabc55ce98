package execserver

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

// killPatience is how long killed processes may take to end before the server
// declares itself broken: one that sleeps in the kernel for ever, as on a dead
// network file system, cannot be killed by anybody.
const killPatience = 20 * time.Second

// While killed processes go away, they are looked at after growing pauses.
const (
	minPause = 20 * time.Microsecond
	maxPause = 5 * time.Millisecond
)

// errNotInit keeps kill(-1) from ever reaching the processes of a host.
var errNotInit = errors.New("the exec server must be PID 1 of a PID namespace of its own, " +
	"since it ends commands by killing every process that it can see")

// mustBeInit fails unless this process is PID 1.
func mustBeInit() error {
	if pid := os.Getpid(); pid != 1 {
		return fmt.Errorf("%w; it is process %d", errNotInit, pid)
	}
	return nil
}

// killAll sends a signal to every process of the namespace but this one.
// The kernel does that in one step that no fork can slip through.
func killAll(sig syscall.Signal) error {
	if err := mustBeInit(); err != nil {
		return err
	}
	if err := syscall.Kill(-1, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("kill all processes: %w", err)
	}
	return nil
}

// reaper collects the dead: the main process of a command and all orphans,
// which the kernel makes children of PID 1.
type reaper struct {
	patience time.Duration // with killed processes

	main   int // process id
	ended  bool
	status syscall.WaitStatus // of main, once it ended
	usage  Usage              // of all that were reaped
	// since is when everything was first sent SIGKILL, or zero; killed counts
	// those that were reaped since then, but not main.
	since  time.Time
	killed int
}

// reap collects every process that is dead by now and says whether others
// are left. That none is left means that the namespace is empty: each process
// descends from a child of PID 1.
func (r *reaper) reap() (left bool, err error) {
	for {
		var status syscall.WaitStatus
		var usage syscall.Rusage
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG|syscall.WALL, &usage)
		switch {
		case errors.Is(err, syscall.ECHILD):
			return false, nil
		case errors.Is(err, syscall.EINTR):
			continue
		case err != nil:
			return true, fmt.Errorf("wait for processes: %w", err)
		case pid == 0:
			return true, nil
		}
		r.bury(pid, status, &usage)
	}
}

// bury notes the end of a process.
func (r *reaper) bury(pid int, status syscall.WaitStatus, usage *syscall.Rusage) {
	r.usage.add(usage)
	switch {
	case pid == r.main:
		r.ended, r.status = true, status
	case !r.since.IsZero():
		r.killed++
	}
}

// kill kills every process that is left. What the kernel cannot end at once is
// ended as soon as it can: no second kill is needed, and none does any harm.
func (r *reaper) kill() error {
	if r.since.IsZero() {
		r.since = time.Now()
	}
	return killAll(syscall.SIGKILL)
}

// overdue reports whether killed processes had more time than they need.
func (r *reaper) overdue(now time.Time) bool {
	return !r.since.IsZero() && now.Sub(r.since) > r.patience
}

// extinguish kills every process that is left and returns when none is. To wait
// without a limit could hang for ever, and wait4 knows no limit.
func (r *reaper) extinguish() error {
	for pause := minPause; ; pause = min(pause*3/2, maxPause) {
		left, err := r.reap()
		if err != nil || !left {
			return err
		}
		if r.overdue(time.Now()) {
			return fmt.Errorf("processes are left %v after they were killed", r.patience)
		}
		if r.since.IsZero() || pause == maxPause {
			if err := r.kill(); err != nil {
				return err
			}
		}
		time.Sleep(pause)
	}
}

// add counts a dead process, whose usage includes the children it waited for.
func (u *Usage) add(ru *syscall.Rusage) {
	u.UserTime += time.Duration(ru.Utime.Nano())
	u.SystemTime += time.Duration(ru.Stime.Nano())
	u.MaxRSS = max(u.MaxRSS, ru.Maxrss<<10)
	u.BlocksIn += ru.Inblock
	u.BlocksOut += ru.Oublock
	u.MinorFaults += ru.Minflt
	u.MajorFaults += ru.Majflt
	u.VoluntarySwitches += ru.Nvcsw
	u.InvoluntarySwitches += ru.Nivcsw
}
