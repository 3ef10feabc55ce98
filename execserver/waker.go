package execserver

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// waker ends a poll from other goroutines.
type waker struct{ fd int }

func newWaker() (*waker, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("make an eventfd: %w", err)
	}
	return &waker{fd: fd}, nil
}

// wake makes the next poll return at once. The write can fail only when the
// counter is full, and then the poll is awake anyway.
func (w *waker) wake() {
	one := [8]byte{0: 1}
	_, _ = unix.Write(w.fd, one[:])
}

// drain makes the next poll sleep again. A wake that comes late, meant for a
// command that has ended, does no harm: each poll checks what there is to do.
func (w *waker) drain() error {
	var count [8]byte
	if _, err := unix.Read(w.fd, count[:]); err != nil && !errors.Is(err, unix.EAGAIN) {
		return fmt.Errorf("read an eventfd: %w", err)
	}
	return nil
}

func (w *waker) close() error { return unix.Close(w.fd) }
