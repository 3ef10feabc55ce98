package execserver

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// feed is the write end of a worker's stdin, and what is still to be written to it.
type feed struct {
	fd   int // -1 once nobody reads it any more
	data []byte
}

// newFeed makes the pipe. The caller closes its read end.
func newFeed() (f *feed, read int, err error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return nil, -1, fmt.Errorf("make a pipe: %w", err)
	}
	if err := unix.SetNonblock(fds[1], true); err != nil {
		return nil, -1, fmt.Errorf("make a pipe: %w", errors.Join(err, unix.Close(fds[0]), unix.Close(fds[1])))
	}
	return &feed{fd: fds[1]}, fds[0], nil
}

// wants says whether there is something to write, and somebody who may read it.
func (f *feed) wants() bool { return f != nil && f.fd >= 0 && len(f.data) > 0 }

// write writes what the pipe takes without blocking. A worker that reads no more is
// no error: it has closed its stdin, or is about to be found dead.
func (f *feed) write() error {
	n, err := unix.Write(f.fd, f.data)
	switch {
	case err == nil:
		f.data = f.data[n:]
		return nil
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		return nil
	case errors.Is(err, unix.EPIPE):
		f.data = nil
		return f.close()
	default:
		return fmt.Errorf("write to the worker: %w", err)
	}
}

func (f *feed) close() error {
	if f == nil || f.fd < 0 {
		return nil
	}
	fd := f.fd
	f.fd = -1
	return unix.Close(fd)
}
