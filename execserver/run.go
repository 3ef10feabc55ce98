package execserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hearth-build/hearth/execserver/execpb"
)

// reapInterval bounds how long a dead orphan keeps its process id while its
// command is silent.
const reapInterval = time.Second

// run is one command, from its start to the end of its last process. All of it
// happens on the goroutine of the connection: each hand-over would cost more than
// all other work of the server.
type run struct {
	reaper
	ladder
	pipes  *[2]pipe
	sender *sender
	wake   *waker
	score  *oomScore
	pidfd  int
	start  time.Time
	took   time.Duration

	// Of a worker alone.
	stdin   *feed
	lending *lending
}

// begin starts the command.
func (r *run) begin(ctx context.Context, cmd *Command, stdin int) (_ *execpb.NotStarted, err error) {
	stdio := []uintptr{uintptr(stdin)}
	defer func() {
		for _, fd := range stdio[1:] {
			err = errors.Join(err, unix.Close(int(fd)))
		}
	}()
	for i := range r.pipes {
		fd, err := r.pipes[i].open()
		if err != nil {
			return nil, err
		}
		stdio = append(stdio, uintptr(fd))
	}
	if err := r.score.raise(); err != nil {
		return nil, err
	}
	r.start = time.Now()
	started, failure := cmd.start(ctx, stdio)
	if err := r.score.lower(); err != nil {
		return nil, err
	}
	if failure != nil {
		return failure, nil
	}
	r.main, r.pidfd = started.pid, started.pidfd
	r.ladder = newLadder(cmd, r.start)
	return nil, nil
}

// close gives back what begin opened.
func (r *run) close() error {
	err := errors.Join(r.pipes[0].close(), r.pipes[1].close(), r.stdin.close())
	if r.main != 0 {
		err = errors.Join(err, unix.Close(r.pidfd))
	}
	return err
}

// watch reads output and enforces the timeout until the main process has ended,
// or should have, or is to be kept. When ctx ends, it kills everything.
func (r *run) watch(ctx context.Context) error {
	for {
		if err := r.poll(); err != nil {
			return err
		}
		if _, err := r.reap(); err != nil {
			return err
		}
		now := time.Now()
		if keep := r.lending.turn(r.stdin); keep || r.ended || r.overdue(now) {
			r.took = now.Sub(r.start)
			return nil
		}
		sig := r.climb(now)
		if ctx.Err() != nil {
			sig = syscall.SIGKILL
		}
		if err := r.signal(sig); err != nil {
			return err
		}
		r.flush(now)
	}
}

// signal sends a step of the ladder. A stopped process gets SIGTERM only when
// it is continued.
func (r *run) signal(sig syscall.Signal) error {
	switch sig {
	case 0:
		return nil
	case syscall.SIGKILL:
		return r.kill()
	}
	if err := killAll(sig); err != nil {
		return err
	}
	return killAll(syscall.SIGCONT)
}

// poll waits for something to do, and reads what there is to read.
func (r *run) poll() error {
	fds := [5]unix.PollFd{
		{Fd: -1, Events: unix.POLLIN},
		{Fd: -1, Events: unix.POLLIN},
		{Fd: int32(r.pidfd), Events: unix.POLLIN},
		{Fd: int32(r.wake.fd), Events: unix.POLLIN},
		{Fd: -1, Events: unix.POLLOUT},
	}
	if r.stdin.wants() {
		fds[4].Fd = int32(r.stdin.fd)
	}
	for i := range r.pipes {
		if p := &r.pipes[i]; p.wants() {
			fds[i].Fd = int32(p.fd)
		}
	}
	timeout := unix.NsecToTimespec(int64(max(0, r.wait(time.Now()))))
	if _, err := unix.Ppoll(fds[:], &timeout, nil); err != nil && !errors.Is(err, unix.EINTR) {
		return fmt.Errorf("poll: %w", err)
	}
	if fds[3].Revents != 0 {
		if err := r.wake.drain(); err != nil {
			return err
		}
	}
	if fds[4].Revents != 0 {
		if err := r.stdin.write(); err != nil {
			return err
		}
	}
	for i := range r.pipes {
		if fds[i].Revents == 0 {
			continue
		}
		if err := r.pipes[i].read(); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
	}
	return nil
}

// wait says how long poll may sleep.
func (r *run) wait(now time.Time) time.Duration {
	wait := reapInterval
	if !r.next.IsZero() {
		wait = min(wait, r.next.Sub(now))
	}
	for i := range r.pipes {
		// A busy sender wakes the poll when it is done.
		if p := &r.pipes[i]; len(p.buf) > 0 && !r.sender.busy.Load() {
			wait = min(wait, p.since.Add(flushDelay).Sub(now))
		}
	}
	return wait
}

// flush hands output that is due to the sender, the older first.
func (r *run) flush(now time.Time) {
	var due *pipe
	for i := range r.pipes {
		p := &r.pipes[i]
		if len(p.buf) == 0 || len(p.buf) < chunkSize && now.Sub(p.since) < flushDelay {
			continue
		}
		if due == nil || p.since.Before(due.since) {
			due = p
		}
	}
	if due != nil {
		r.sender.take(due)
		runtime.Gosched() // to the sender, which could not run during the next poll
	}
}

// exited is the last event.
func (r *run) exited() *execpb.RunEvent {
	exited := &execpb.Exited{
		TimedOut:      r.timedOut,
		DurationNanos: int64(r.took),
		Killed:        uint32(r.killed),
		Usage:         r.usage.message(),
	}
	if r.status.Signaled() {
		exited.Signal = int32(r.status.Signal())
	} else {
		exited.ExitCode = int32(r.status.ExitStatus())
	}
	return &execpb.RunEvent{Event: &execpb.RunEvent_Exited{Exited: exited}}
}

// ladder says which signal is due when the timeout expires: SIGTERM, and
// SIGKILL after a grace.
type ladder struct {
	next     time.Time // of the next step; zero: none
	grace    time.Duration
	timedOut bool
}

func newLadder(cmd *Command, start time.Time) ladder {
	l := ladder{grace: cmd.Grace}
	if cmd.Timeout > 0 {
		l.next = start.Add(cmd.Timeout)
	}
	return l
}

// climb returns the signal that is due, or 0, and goes on to the next step.
func (l *ladder) climb(now time.Time) syscall.Signal {
	if l.next.IsZero() || now.Before(l.next) {
		return 0
	}
	if !l.timedOut && l.grace > 0 {
		l.timedOut, l.next = true, now.Add(l.grace)
		return syscall.SIGTERM
	}
	l.timedOut, l.next = true, time.Time{}
	return syscall.SIGKILL
}
