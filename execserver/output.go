package execserver

import (
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hearth-build/hearth/execserver/execpb"
)

const (
	// chunkSize is the most that one event carries, and the most of each stream
	// that the server holds: beyond it the command waits for the client.
	chunkSize = 64 << 10
	// flushDelay is how long output may wait for more, so that a short command
	// sends one event per stream, and one that prints line by line few.
	flushDelay = 10 * time.Millisecond
)

// eventStream is what of a gRPC stream is needed here.
type eventStream interface {
	Send(*execpb.RunEvent) error
}

// pipe is the read end of what a command prints to, and what was read from it
// and not sent yet. Its memory is kept for the next command.
type pipe struct {
	fd    int // -1 once its end was reached
	buf   []byte
	since time.Time // when the first byte of buf was read
	event func([]byte) *execpb.RunEvent
}

func newPipes() [2]pipe {
	return [2]pipe{
		{fd: -1, event: func(b []byte) *execpb.RunEvent {
			return &execpb.RunEvent{Event: &execpb.RunEvent_Stdout{Stdout: b}}
		}},
		{fd: -1, event: func(b []byte) *execpb.RunEvent {
			return &execpb.RunEvent{Event: &execpb.RunEvent_Stderr{Stderr: b}}
		}},
	}
}

// open makes the pipe and returns its write end, to be closed by the caller.
// A read never blocks, the command's writes do.
func (p *pipe) open() (write int, err error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return -1, fmt.Errorf("make a pipe: %w", err)
	}
	if err := unix.SetNonblock(fds[0], true); err != nil {
		return -1, fmt.Errorf("make a pipe: %w", errors.Join(err, unix.Close(fds[0]), unix.Close(fds[1])))
	}
	p.fd, p.buf = fds[0], p.buf[:0]
	return fds[1], nil
}

// wants says whether there is room for more.
func (p *pipe) wants() bool { return p.fd >= 0 && len(p.buf) < chunkSize }

// read takes what is there, as far as there is room, of which there must be
// some. io.EOF: nothing is there now, or nothing will ever be.
func (p *pipe) read() error {
	if p.buf == nil {
		p.buf = make([]byte, 0, chunkSize)
	}
	n, err := unix.Read(p.fd, p.buf[len(p.buf):chunkSize])
	switch {
	case errors.Is(err, unix.EINTR):
		return nil
	case errors.Is(err, unix.EAGAIN):
		return io.EOF
	case err != nil:
		return fmt.Errorf("read the command's output: %w", err)
	case n == 0:
		return errors.Join(io.EOF, p.close())
	}
	if len(p.buf) == 0 {
		p.since = time.Now()
	}
	p.buf = p.buf[:len(p.buf)+n]
	return nil
}

func (p *pipe) close() error {
	if p.fd < 0 {
		return nil
	}
	fd := p.fd
	p.fd = -1
	return unix.Close(fd)
}

// drain sends all that is left in the pipe. No process must be left: nothing
// is waited for but the client.
func (p *pipe) drain(stream eventStream) error {
	for p.fd >= 0 {
		if !p.wants() {
			if err := p.send(stream); err != nil {
				return err
			}
		}
		switch err := p.read(); {
		case errors.Is(err, io.EOF):
			if err := p.close(); err != nil {
				return err
			}
		case err != nil:
			return err
		}
	}
	return p.send(stream)
}

func (p *pipe) send(stream eventStream) error {
	if len(p.buf) == 0 {
		return nil
	}
	err := stream.Send(p.event(p.buf))
	p.buf = p.buf[:0]
	return err
}

// sender sends events from a goroutine of its own while a command runs, so that
// a slow client delays neither the command's timeout nor its cancellation. It
// is started by the first event: most commands are done before they need it.
type sender struct {
	stream eventStream
	wake   func() // called when the sender has become idle
	busy   atomic.Bool
	queue  chan *execpb.RunEvent // nil until started; holds at most one
	done   chan error
	spare  []byte // room to read into while another chunk is sent
}

// take hands a pipe's buffer to the sender, unless that is busy.
func (s *sender) take(p *pipe) {
	if s.busy.Load() {
		return
	}
	if s.queue == nil {
		s.queue, s.done = make(chan *execpb.RunEvent, 1), make(chan error, 1)
		go s.run()
	}
	if s.spare == nil {
		s.spare = make([]byte, 0, chunkSize)
	}
	full := p.buf
	s.busy.Store(true)
	s.queue <- p.event(full)
	// full is read by the goroutine until it is idle; only then is it used
	// again, by the take call after that.
	p.buf, s.spare = s.spare[:0], full
}

// run ends when the queue is closed. After an error, which means that the call
// has ended, it takes events only to drop them.
func (s *sender) run() {
	var failed error
	for event := range s.queue {
		if failed == nil {
			failed = s.stream.Send(event)
		}
		s.busy.Store(false)
		s.wake()
	}
	s.done <- failed
}

// stop waits until all events are sent, or the call has ended.
func (s *sender) stop() error {
	if s.queue == nil {
		return nil
	}
	close(s.queue)
	err := <-s.done
	s.queue = nil
	return err
}
