package disk

import (
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hearth-build/hearth/cas"
)

// space watches the real file system, which others fill as well.
type space struct {
	fd        int   // a directory of the file system
	minBytes  int64 // these stay free
	minInodes int64
	total     int64  // bytes of the file system
	memtable  uint64 // what the key-value side writes at once
	// pending is how many bytes are reserved and not written yet.
	pending atomic.Int64
	// compaction is what the key-value side may need to give space back.
	compaction atomic.Int64
	// making is held by the one that evicts for the sake of the file system.
	making sync.Mutex

	mu   sync.Mutex // guards all below
	at   time.Time
	last freeSpace
}

// freeSpace is what an ordinary user may still fill, and the whole.
type freeSpace struct{ bytes, total, inodes, totalInodes int64 }

const (
	defaultMinFree = 1 << 30
	// A reading stays good for a moment as long as there is plenty: nobody
	// writes a GiB in that time.
	readingAge  = 100 * time.Millisecond
	plentyBytes = 1 << 30
	plentyNodes = 100_000
)

func newSpace(fd int, minBytes int64) (*space, error) {
	free, err := statfs(fd)
	if err != nil {
		return nil, err
	}
	memtable := memtableSize(free.total)
	if minBytes == 0 {
		minBytes = min(defaultMinFree, free.total/50)
	}
	// What is in memory can always be written out, and something be compacted.
	minBytes = max(minBytes, 8*int64(memtable))
	// Inodes are counted by few file systems, and run out before bytes do
	// where blobs are small.
	return &space{
		fd: fd, minBytes: minBytes, minInodes: min(1000, free.totalInodes/50),
		total: free.total, memtable: memtable,
	}, nil
}

func statfs(fd int) (freeSpace, error) {
	var st unix.Statfs_t
	if err := ignoringEINTR(func() error { return unix.Fstatfs(fd, &st) }); err != nil {
		return freeSpace{}, fmt.Errorf("read the free space of the store's file system: %w", err)
	}
	block := st.Frsize
	if block == 0 {
		block = st.Bsize
	}
	return freeSpace{
		bytes: int64(st.Bavail) * block, total: int64(st.Blocks) * block,
		inodes: int64(st.Ffree), totalInodes: int64(st.Files),
	}, nil
}

// shortage tells how many bytes have to go, and at least how many blobs, before
// all that is pending fits. Fresh asks for a new reading.
func (s *space) shortage(fresh bool) (bytes int64, blobs int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	pending := s.pending.Load()
	now := time.Now()
	if !fresh && now.Sub(s.at) < readingAge && s.plenty(pending) {
		return 0, 0, nil
	}
	if s.last, err = statfs(s.fd); err != nil {
		return 0, 0, err
	}
	s.at = now
	bytes = max(0, pending-(s.last.bytes-s.minBytes-s.compaction.Load()))
	if s.last.totalInodes > 0 && s.last.inodes < s.minInodes {
		blobs = int(s.minInodes - s.last.inodes)
	}
	return bytes, blobs, nil
}

// tight reports whether so little is left that nothing may be added: half of the
// floor, so that there is time to make room between it and the floor.
func (s *space) tight() (bool, error) {
	_, files, err := s.shortage(true)
	s.mu.Lock()
	defer s.mu.Unlock()
	return files > 0 || s.last.bytes-s.pending.Load() < s.minBytes/2, err
}

// free tells how many bytes are left. Where that is not told, the write decides.
func (s *space) free() int64 {
	free, err := statfs(s.fd)
	if err != nil {
		return math.MaxInt64
	}
	return free.bytes
}

func (s *space) plenty(pending int64) bool {
	return s.last.bytes-s.minBytes-pending > plentyBytes && (s.last.totalInodes == 0 || s.last.inodes > plentyNodes)
}

// full describes the last reading to whoever has to make room.
func (s *space) full(dir string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return fmt.Errorf("%w: the file system of %s has %s and %d inodes left, of which %s and %d are kept free, and nothing in the store may go: delete other files there or choose another directory",
		cas.ErrNoSpace, dir, sizeText(s.last.bytes), s.last.inodes, sizeText(s.minBytes), s.minInodes)
}

// spaceError makes what the kernel says about a full disk a cas.ErrNoSpace.
func spaceError(err error) error {
	switch {
	case errors.Is(err, unix.ENOSPC):
		return fmt.Errorf("%w: the file system of the store is full: delete other files there (%w)", cas.ErrNoSpace, err)
	case errors.Is(err, unix.EDQUOT):
		return fmt.Errorf("%w: the disk quota of the store's user is used up: raise it or delete other files (%w)", cas.ErrNoSpace, err)
	}
	return err
}

// sizeText writes a number of bytes for people.
func sizeText(n int64) string {
	if n < 1<<10 {
		return fmt.Sprintf("%d bytes", n)
	}
	units := "KMGTPE"
	value := float64(n) / (1 << 10)
	for value >= 1<<10 && len(units) > 1 {
		value /= 1 << 10
		units = units[1:]
	}
	return fmt.Sprintf("%.1f %ciB", value, units[0])
}

// ignoringEINTR repeats a call that a signal interrupted.
func ignoringEINTR(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}
