package disk

import (
	"context"
	"sync"
	"time"
)

// reclaimer has the key-value side give the space of deleted values back, which
// it does by itself only in time.
type reclaimer struct {
	mu      sync.Mutex // guards all below
	deleted int64      // bytes of values that were deleted since it last began
	running chan struct{}
	err     error // of the last run
}

// add notes that values were deleted.
func (r *reclaimer) add(bytes int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.deleted += bytes
}

// expected is how many bytes deletions will give back without more of them.
func (r *reclaimer) expected() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.deleted
}

// begin returns what closes at the end of the run in progress, and whether that
// is the caller's to do.
func (r *reclaimer) begin() (done chan struct{}, own bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.running != nil {
		return r.running, false
	}
	r.running, r.deleted = make(chan struct{}), 0
	return r.running, true
}

func (r *reclaimer) end(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	close(r.running)
	r.running, r.err = nil, err
}

// lacksRoom reports whether the last run failed.
func (r *reclaimer) lacksRoom() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err != nil
}

// reclaimTime is how long an upload waits for room before it is refused.
const reclaimTime = 10 * time.Second

// reclaim waits until the key-value side has given up what was deleted, unless
// it takes too long or cannot: then what comes of it is for those who come later.
// If it had no room for that, files make some.
func (d *Disk) reclaim() error {
	d.awaitReclaim()
	if !d.reclaimer.lacksRoom() && d.values.fs.compactions.failing() == 0 {
		return nil
	}
	x := d.index
	x.mu.Lock()
	victims := x.evictFilesLocked(0, max(x.small/4, slack(d.space.total)), nil)
	x.mu.Unlock()
	return d.removeNow(victims)
}

func (d *Disk) awaitReclaim() {
	done, own := d.reclaimer.begin()
	if own {
		d.writing.Go(func() {
			d.index.clearAll()
			err := d.drain(context.Background())
			if err == nil {
				err = d.values.reclaim()
			}
			d.reclaimer.end(err)
		})
	}
	timeout := time.NewTimer(reclaimTime)
	defer timeout.Stop()
	for d.values.fs.trouble() == nil && d.values.fs.compactions.failing() == 0 {
		_, _, _, change := d.index.queueState()
		select {
		case <-done:
			return
		case <-timeout.C:
			return
		case <-change: // or trouble, or no room
		}
	}
}
