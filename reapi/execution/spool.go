package execution

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"sync"

	"github.com/hearth-build/hearth/cas"
)

// inMemory is how much of a stream is held in memory before a file takes it.
const inMemory = 64 << 10

// spool keeps one stream of output, in memory while it is small, until it is in
// the store. One goroutine writes; any number may follow, at their own pace,
// from what is kept, so that none of them holds up the command.
type spool struct {
	dir   string
	limit int64

	mu    sync.Mutex // guards what follows; nothing that takes time is done under it but writes
	size  int64      // what was written never changes
	small []byte
	file  *os.File // unlinked; nil while everything fits in memory
	// grown is closed and forgotten when there is more, or the end; nil while
	// nobody waits for that.
	grown chan struct{}
	ended bool
	// stored names the blob, once it has ended and the store has it.
	stored cas.Digest
}

// errEnded: the stream has ended, and what is left to read of it is elsewhere.
var errEnded = errors.New("the stream has ended")

// Write implements io.Writer.
func (s *spool) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.size+int64(len(p)) > s.limit {
		return 0, fmt.Errorf("%w: the command printed more than %d bytes (--max-printed)", ErrOutputLimit, s.limit)
	}
	if s.file == nil && s.size+int64(len(p)) > inMemory {
		if err := s.spill(); err != nil {
			return 0, err
		}
	}
	if s.file == nil {
		s.small = append(s.small, p...)
	} else if _, err := s.file.Write(p); err != nil {
		return 0, fmt.Errorf("keep what the command prints: %w", err)
	}
	s.size += int64(len(p))
	s.wake()
	return len(p), nil
}

// spill moves what there is to a file. The spool is locked.
func (s *spool) spill() error {
	f, err := os.CreateTemp(s.dir, "printed-")
	if err != nil {
		return fmt.Errorf("make a file for what the command prints: %w", err)
	}
	err = os.Remove(f.Name())
	if err == nil {
		_, err = f.Write(s.small)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("move what the command prints to a file: %w", err), f.Close())
	}
	s.file, s.small = f, nil
	return nil
}

// wake lets followers look again. The spool is locked.
func (s *spool) wake() {
	if s.grown != nil {
		close(s.grown)
		s.grown = nil
	}
}

// follow reads what was written at an offset, and waits until there is some.
// io.EOF: that was all. errEnded: more was written, but it is not here any more.
func (s *spool) follow(ctx context.Context, p []byte, offset int64) (int, error) {
	for {
		n, grown, err := s.look(p, offset)
		if n > 0 || err != nil {
			return n, err
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}

// look reads what there is. If there is nothing yet, grown says when to try again.
func (s *spool) look(p []byte, offset int64) (n int, grown <-chan struct{}, err error) {
	s.mu.Lock()
	available, file := s.size-offset, s.file
	switch {
	case s.ended && available == 0:
		err = io.EOF
	case s.ended:
		err = errEnded
	case available <= 0:
		if s.grown == nil {
			s.grown = make(chan struct{})
		}
		grown = s.grown
	case file == nil:
		n = copy(p, s.small[offset:])
	}
	s.mu.Unlock()
	if n > 0 || grown != nil || err != nil {
		return n, grown, err
	}
	n, err = file.ReadAt(p[:min(int64(len(p)), available)], offset)
	if errors.Is(err, os.ErrClosed) {
		err = errEnded // since it was looked at
	}
	return n, nil, err
}

// store puts the whole stream into a store. Nothing is written any more.
func (s *spool) store(ctx context.Context, to cas.Store, f cas.Function) (cas.Digest, error) {
	var err error
	content := f.Content(s.small)
	d := content.Digest()
	if s.file != nil {
		if d, err = digestOf(s.file, f, s.size); err != nil {
			return cas.Digest{}, err
		}
		content = cas.NewContent(d, io.NewSectionReader(s.file, 0, s.size))
	}
	if err := to.Put(ctx, content); err != nil {
		return cas.Digest{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stored = d
	return d, nil
}

func digestOf(r io.ReaderAt, f cas.Function, size int64) (cas.Digest, error) {
	var h hash.Hash = f.New(size)
	if _, err := io.Copy(h, io.NewSectionReader(r, 0, size)); err != nil {
		return cas.Digest{}, fmt.Errorf("read back what the command printed: %w", err)
	}
	return cas.ParseDigest(f, fmt.Sprintf("%x", h.Sum(nil)), size)
}

// end gives back what the spool takes up. Who follows goes on in the store.
func (s *spool) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	s.small = nil
	if s.file != nil {
		_ = s.file.Close() // nothing was to be kept in it
		s.file = nil
	}
	s.wake()
}

// whole is the blob of a stream that has ended, if the store has it.
func (s *spool) whole() (d cas.Digest, size int64, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stored, s.size, !s.stored.IsZero()
}
