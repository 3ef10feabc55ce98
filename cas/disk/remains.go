package disk

import (
	"context"
	"sync"

	"golang.org/x/sys/unix"
)

// remains are files that have lost their names and not yet their blocks. To give the
// blocks of a large one back takes the kernel tens of milliseconds, more if it tells
// the disk so, which no upload has to wait for.
type remains struct {
	freeing sync.Mutex // held while blocks are given back

	mu    sync.Mutex // guards all below
	fds   []int      // they keep the files
	bytes int64
	wake  chan struct{} // has room for one
}

// maxRemains and maxRemainingFiles are how much may wait; beyond, whoever removes files
// waits.
const (
	maxRemains        = 256 << 20
	maxRemainingFiles = 256
)

// remove takes a file's name away.
func (r *remains) remove(path string, size int64) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return removeFile(path) // which tells what is wrong, if anything is
	}
	err = removeFile(path)
	r.mu.Lock()
	r.fds = append(r.fds, fd)
	r.bytes += size
	full := r.bytes > maxRemains || len(r.fds) > maxRemainingFiles
	r.mu.Unlock()
	if full {
		r.free()
	} else {
		poke(r.wake)
	}
	return err
}

// free gives all blocks back.
func (r *remains) free() {
	r.freeing.Lock()
	defer r.freeing.Unlock()
	r.mu.Lock()
	fds := r.fds
	r.fds, r.bytes = nil, 0
	r.mu.Unlock()
	for _, fd := range fds {
		_ = unix.Close(fd) // nothing was written by it
	}
}

// freeAlways frees what there is until ctx ends.
func (r *remains) freeAlways(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
			r.free()
		}
	}
}
