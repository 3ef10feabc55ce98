package tiered

import (
	"context"
	"errors"
	"math"
	"sync"
	"time"
)

var errNotYet = errors.New("it has not come yet")

// window is the last bytes of a blob on its way into the local tier, for readers
// that want them sooner. The fetch waits for a reader that falls behind, but all
// such waiting together takes no longer than patience: then the slowest reader is
// detached, and reads on when the blob is there.
type window struct {
	size int64 // of the blob

	mu       sync.Mutex // guards all below
	ring     []byte     // the byte at n is at n modulo its length
	most     int64      // length of ring, which is made for the first reader
	start    int64      // of what the ring holds
	total    int64      // bytes that came
	readers  map[*seat]struct{}
	patience time.Duration
	changed  chan struct{} // closed, and another one made, at each change
	opened   bool          // the remote store has the blob
	kept     error         // why the local tier does not have the blob
}

// seat is a reader's place at a window.
type seat struct{ at int64 }

func newWindow(size, most int64, patience time.Duration) *window {
	return &window{
		size: size, most: min(size, most), patience: patience,
		readers: map[*seat]struct{}{}, changed: make(chan struct{}), kept: errNotYet,
	}
}

func (w *window) changedLocked() {
	close(w.changed)
	w.changed = make(chan struct{})
}

// open says that the remote store has the blob.
func (w *window) open() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.opened = true
	w.changedLocked()
}

func (w *window) isOpen() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.opened
}

// keep says what came of the local copy: kept is nil if there is one.
func (w *window) keep(kept error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.kept = kept
}

// wasKept is nil if the local tier has the blob.
func (w *window) wasKept() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.kept
}

// serveReaders says that there will be no local copy to read on from, so that no
// reader is left behind. It reports whether there are any.
func (w *window) serveReaders() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.patience = math.MaxInt64
	return len(w.readers) > 0
}

// attach gives a reader a seat, if what it wants has not gone past.
func (w *window) attach(at int64) *seat {
	w.mu.Lock()
	defer w.mu.Unlock()
	if at < w.start {
		return nil
	}
	s := &seat{at: at}
	w.readers[s] = struct{}{}
	return s
}

// detach takes a reader's seat away.
func (w *window) detach(s *seat) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.readers, s)
	w.changedLocked()
}

// write is for the fetch: it adds what came.
func (w *window) write(ctx context.Context, p []byte) error {
	for len(p) > 0 {
		n, err := w.writeSome(ctx, p)
		if err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}

func (w *window) writeSome(ctx context.Context, p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.readers) == 0 { // whoever comes now reads when the blob is there
		w.total += int64(len(p))
		w.start = w.total
		return len(p), nil
	}
	if w.ring == nil {
		w.ring = make([]byte, max(1, w.most))
	}
	room := int64(len(w.ring)) - (w.total - w.slowestLocked())
	if room <= 0 {
		return 0, w.waitLocked(ctx)
	}
	at := w.total % int64(len(w.ring))
	n := copy(w.ring[at:min(int64(len(w.ring)), at+room)], p)
	w.total += int64(n)
	w.start = max(w.start, w.total-int64(len(w.ring)))
	w.changedLocked()
	return n, nil
}

// slowestLocked is the offset that the slowest reader is at.
func (w *window) slowestLocked() int64 {
	at := w.total
	for s := range w.readers {
		at = min(at, s.at)
	}
	return at
}

// waitLocked waits for a reader to move on, or detaches those that hold all up.
func (w *window) waitLocked(ctx context.Context) error {
	if w.patience <= 0 {
		slowest := w.slowestLocked()
		for s := range w.readers {
			if s.at == slowest {
				delete(w.readers, s)
			}
		}
		w.changedLocked()
		return nil
	}
	changed, patience, began := w.changed, w.patience, time.Now()
	w.mu.Unlock()
	err := await(ctx, changed, patience)
	w.mu.Lock()
	w.patience -= time.Since(began)
	return err
}

// await waits for a change, at most for patience.
func await(ctx context.Context, changed <-chan struct{}, patience time.Duration) error {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-changed:
		return nil
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// read is for a reader with a seat: it gives what came, except for the last byte,
// which is not given before the blob is proven. attached is false if the reader
// lost its seat. If there is nothing to give, changed says when to look again.
func (w *window) read(s *seat, p []byte, proven bool) (n int, attached bool, changed <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, attached = w.readers[s]; !attached {
		return 0, false, nil
	}
	end := w.total
	if !proven {
		end = min(end, w.size-1)
	}
	if s.at >= end {
		return 0, true, w.changed
	}
	at := s.at % int64(len(w.ring))
	n = copy(p[:min(int64(len(p)), end-s.at)], w.ring[at:])
	s.at += int64(n)
	w.changedLocked()
	return n, true, nil
}

// awaitOpen waits until the remote store is known to have the blob.
func (w *window) awaitOpen(ctx context.Context, done <-chan struct{}) error {
	for {
		w.mu.Lock()
		opened, changed := w.opened, w.changed
		w.mu.Unlock()
		if opened {
			return nil
		}
		select {
		case <-changed:
		case <-done:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
