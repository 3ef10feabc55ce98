package podman

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// pidfd refers to one process, and never to a later one with the same id.
type pidfd struct {
	fd  int
	pid int
}

func openPidfd(pid int) (*pidfd, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, fmt.Errorf("open process %d: %w", pid, err)
	}
	return &pidfd{fd: fd, pid: pid}, nil
}

func (p *pidfd) close() error { return unix.Close(p.fd) }

// signal signals the process; one that has ended already is no error.
func (p *pidfd) signal(sig syscall.Signal) error {
	if err := unix.PidfdSendSignal(p.fd, sig, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("signal process %d: %w", p.pid, err)
	}
	return nil
}

// ended waits until the process has ended, for as long as it may.
func (p *pidfd) ended(ctx context.Context, patience time.Duration) (bool, error) {
	deadline := time.Now().Add(patience)
	for {
		left := min(time.Until(deadline), 20*time.Millisecond) // how long ctx may wait
		fds := []unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}
		timeout := unix.NsecToTimespec(int64(max(0, left)))
		n, err := unix.Ppoll(fds, &timeout, nil)
		switch {
		case err != nil && !errors.Is(err, unix.EINTR):
			return false, fmt.Errorf("wait for process %d: %w", p.pid, err)
		case n > 0:
			return true, nil
		case left <= 0:
			return false, nil
		case ctx.Err() != nil:
			return false, context.Cause(ctx)
		}
	}
}

// startTime is when a process started, in clock ticks since the boot. With the
// process id and the boot it names one process for ever.
func startTime(pid int) (uint64, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The name, in parentheses, may hold anything; the start is field 22.
	const field, afterName = 22, 3
	_, rest, _ := cutLast(string(stat), ")")
	fields := strings.Fields(rest)
	if len(fields) <= field-afterName {
		return 0, fmt.Errorf("/proc/%d/stat has no start time: %q", pid, stat)
	}
	return strconv.ParseUint(fields[field-afterName], 10, 64)
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// arguments of a process.
func arguments(pid int) ([]string, error) {
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return nil, err
	}
	return strings.Split(strings.TrimSuffix(string(line), "\x00"), "\x00"), nil
}
