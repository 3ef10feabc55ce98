package disk

import (
	"context"
	"sync/atomic"
	"time"
)

// flight is the right of one goroutine to work on the files of one blob: to
// write them, check them, copy them or remove them. Whoever needs the blob
// meanwhile waits.
type flight struct {
	done   chan struct{} // closed at the end, whatever came of it
	pinned bool
	// upload: it waits for a client's bytes, which may never come.
	upload   bool
	progress atomic.Int64 // bytes that came
}

// stallTime is how long an upload may bring nothing before another client that
// brings the same blob stops waiting for it.
const stallTime = 10 * time.Second

// claim asks for the right to write a blob. It returns the presence and, if the
// blob is absent, a flight: the caller's own one or the one to wait for.
func (x *index) claim(k key) (p presence, f *flight, own bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if p = x.useLocked(x.blobs.get(k)); p != absent {
		return p, nil, false
	}
	if f = x.flights[k]; f != nil {
		return absent, f, false
	}
	return absent, x.startLocked(k, &flight{upload: true}), true
}

// claimExisting asks for the right to work on the files of a blob that is
// there, and pins it. e is nil if the blob is absent.
func (x *index) claimExisting(k key) (e *entry, f *flight, own bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	e = x.blobs.get(k)
	if e == nil {
		return nil, nil, false
	}
	if f = x.flights[k]; f != nil {
		return e, f, false
	}
	x.pinLocked(k)
	return e, x.startLocked(k, &flight{pinned: true}), true
}

func (x *index) startLocked(k key, f *flight) *flight {
	f.done = make(chan struct{})
	x.flights[k] = f
	return f
}

// takeOver gives the right of a stalled upload to the caller. It returns nil if
// the upload has ended, or somebody else was quicker.
func (x *index) takeOver(k key, stalled *flight) *flight {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.flights[k] != stalled || x.blobs.get(k) != nil {
		return nil
	}
	return x.startLocked(k, &flight{upload: true})
}

// holds reports whether a flight was not taken over.
func (x *index) holds(k key, f *flight) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.flights[k] == f
}

// finish ends a flight and wakes those who wait for it.
func (x *index) finish(k key, f *flight) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.flights[k] == f {
		delete(x.flights, k)
	}
	if f.pinned {
		x.unpinLocked(k)
	}
	close(f.done)
}

// wait waits for the end of a flight. It reports a stall if the flight is an
// upload that brought nothing for stallTime.
func (f *flight) wait(ctx context.Context) (stalled bool, err error) {
	var tick <-chan time.Time
	if f.upload {
		ticker := time.NewTicker(stallTime)
		defer ticker.Stop()
		tick = ticker.C
	}
	last := f.progress.Load()
	for {
		select {
		case <-f.done:
			return false, nil
		case <-ctx.Done():
			return false, context.Cause(ctx)
		case <-tick:
			now := f.progress.Load()
			if now == last {
				return true, nil
			}
			last = now
		}
	}
}
