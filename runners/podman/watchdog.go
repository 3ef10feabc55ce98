package podman

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hearth-build/hearth/runners"
)

// watchdog kills the command of a podman exec when its time is over: when podman
// is told to break off, the command goes on.
type watchdog struct {
	instance *instance
	cmd      runners.Command
	started  time.Time
	over     chan struct{} // closed when the command has ended
	routines sync.WaitGroup

	// Set by the goroutine, and read once it has ended.
	timedOut bool
	err      error
}

func newWatchdog(in *instance, cmd runners.Command) *watchdog {
	return &watchdog{instance: in, cmd: cmd, started: time.Now(), over: make(chan struct{})}
}

func (w *watchdog) begin(ctx context.Context) {
	w.routines.Go(func() { w.err = w.watch(ctx) })
}

// end says whether the timeout expired.
func (w *watchdog) end() (timedOut bool, err error) {
	close(w.over)
	w.routines.Wait()
	return w.timedOut, w.err
}

func (w *watchdog) watch(ctx context.Context) error {
	timeout := w.cmd.Timeout
	if timeout == 0 {
		timeout = 1<<63 - 1
	}
	select {
	case <-w.over:
		return nil
	case <-ctx.Done():
	case <-time.After(timeout):
		w.timedOut = true
	}
	if w.timedOut && w.cmd.Grace > 0 {
		if over, err := w.ask(); over || err != nil {
			return err
		}
	}
	// Again and again: the command may not have been there yet.
	for {
		if _, err := w.instance.killOthers(); err != nil {
			return err
		}
		if w.isOver(20 * time.Millisecond) {
			return nil
		}
	}
}

// ask asks the command to end, as soon as it is there, and waits for the grace.
func (w *watchdog) ask() (over bool, err error) {
	deadline := time.Now().Add(w.cmd.Grace)
	for {
		n, err := w.instance.signalOthers(syscall.SIGTERM)
		if err != nil {
			return false, err
		}
		if n > 0 {
			return w.isOver(time.Until(deadline)), nil
		}
		if w.isOver(20 * time.Millisecond) {
			return true, nil
		}
		if time.Now().After(deadline) {
			return false, nil
		}
	}
}

// isOver waits a while for the end of the command.
func (w *watchdog) isOver(patience time.Duration) bool {
	select {
	case <-w.over:
		return true
	case <-time.After(patience):
		return false
	}
}

// killPatience bounds how long killed processes may take to go away.
const killPatience = 10 * time.Second

// killOthers kills all processes of the container but the first, and says how
// many there were at the beginning.
func (in *instance) killOthers() (int, error) {
	deadline := time.Now().Add(killPatience)
	first := -1
	for {
		n, err := in.signalOthers(syscall.SIGKILL)
		if err != nil {
			return 0, err
		}
		if first < 0 {
			first = n
		}
		if n == 0 {
			return first, nil
		}
		if time.Now().After(deadline) {
			return 0, fmt.Errorf("%w: processes of container %s are still there %v after they were killed", runners.ErrLost, in.spec.ID, killPatience)
		}
	}
}

// signalOthers signals all processes of the container but the first, and counts them.
func (in *instance) signalOthers(sig syscall.Signal) (int, error) {
	pids, err := in.cgroup.processes()
	if err != nil {
		return 0, fmt.Errorf("processes of container %s: %w", in.spec.ID, err)
	}
	count := 0
	for _, pid := range pids {
		if pid == in.init.pid {
			continue
		}
		count++
		if err := in.signalOne(pid, sig); err != nil {
			return 0, err
		}
	}
	return count, nil
}

// signalOne signals a process that was in the container's cgroup a moment ago.
func (in *instance) signalOne(pid int, sig syscall.Signal) (err error) {
	process, err := openPidfd(pid)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, process.close()) }()
	if _, _, err := in.b.cgroups.directory(pid, in.id, "freezer"); err != nil {
		return nil // ended since, and its id may be another's
	}
	return process.signal(sig)
}
