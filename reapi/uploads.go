package reapi

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/reapi/execution"
)

// errReplaced ends a Write whose upload is continued by another one.
var errReplaced = errors.New("upload continued elsewhere")

// errUploadEnded ends an upload that nobody goes on with.
var errUploadEnded = errors.New("the upload was given up")

// uploadLimits bound the uploads that broke off and wait for their client.
type uploadLimits struct {
	window time.Duration // how long each is kept since its client was last heard of
	bytes  int64         // together, by the sizes of their blobs, which stores reserve
	count  int
}

// defaultUploadLimits suit clients that are back within seconds; the count
// bounds goroutines and buffers, the bytes what a store holds for nothing.
func defaultUploadLimits() uploadLimits {
	return uploadLimits{window: time.Minute, bytes: 4 << 30, count: 64}
}

// uploads are the identity uploads in progress that came in more than one
// message. Of each blob at most one, the latest, can be continued: where others
// bring the blob, nobody must wait for one that broke off.
type uploads struct {
	limits uploadLimits

	mu      sync.Mutex // guards all below, and what every upload says that it guards
	closed  bool
	running map[*upload]struct{}
	byBlob  map[uploadKey]*upload
	parked  []*upload // the longest parked first
	held    int64     // bytes of the parked
}

// uploadKey is a blob of an instance. The other parts of an upload's identity
// are its id, which is compared, and the compressor, which is IDENTITY.
type uploadKey struct {
	instance *execution.Instance // tenants may have the same names
	digest   cas.Digest
}

func (r resource) key() uploadKey { return uploadKey{r.of, r.digest} }

func newUploads(limits uploadLimits) *uploads {
	return &uploads{limits: limits, running: map[*upload]struct{}{}, byBlob: map[uploadKey]*upload{}}
}

// start begins an upload from its first byte. The Put outlives the call, so it
// has a goroutine of its own, which close and wait answer for.
func (o *uploads) start(ctx context.Context, store cas.Putter, name resource, c *writeCall) (*upload, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return nil, fmt.Errorf("no upload is taken any more: %w", execution.ErrDraining)
	}
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	u := &upload{
		owner: o, name: name, cancel: cancel, from: c, call: c,
		next: make(chan *writeCall, 1), ended: make(chan struct{}), done: make(chan struct{}),
	}
	u.take()
	o.yieldLocked(name)
	o.byBlob[name.key()] = u
	o.running[u] = struct{}{}
	go u.put(ctx, store)
	return u, nil
}

// yield ends a parked upload of a blob that now comes as a whole, so that the
// store does not wait for it.
func (o *uploads) yield(name resource) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.yieldLocked(name)
}

func (o *uploads) yieldLocked(name resource) {
	if old := o.byBlob[name.key()]; old != nil && old.state == uploadParked {
		o.endLocked(old, errUploadEnded)
	}
}

// resume lets a call go on with an upload: where the bytes that came end, or
// where QueryWriteStatus told the client to, while a call was still open.
func (o *uploads) resume(name resource, c *writeCall) (*upload, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	u, start := o.findLocked(name), c.in.start()
	switch {
	case u == nil:
		return nil, fmt.Errorf("%w: write_offset %d, but nothing is kept of this upload: start at 0, as QueryWriteStatus says", errInvalid, start)
	case start != u.received.Load() && start != u.promised:
		return nil, fmt.Errorf("%w: write_offset %d, but QueryWriteStatus says %d", errInvalid, start, u.received.Load())
	case u.state == uploadParked:
		o.unparkLocked(u)
	case len(u.next) > 0:
		return nil, fmt.Errorf("%w: a third Write of this upload", errReplaced)
	default:
		close(u.call.replaced)
	}
	u.state, u.call = uploadOpen, c
	u.next <- c
	return u, nil
}

// committed returns how many bytes of an upload are there to go on after, and
// gives its client time to do so.
func (o *uploads) committed(name resource) int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	u := o.findLocked(name)
	if u == nil {
		return 0
	}
	u.promised = u.received.Load()
	if u.state == uploadParked {
		u.deadline = time.Now().Add(o.limits.window)
		u.timer.Reset(o.limits.window)
	}
	return u.promised
}

func (o *uploads) findLocked(name resource) *upload {
	u := o.byBlob[name.key()]
	if u == nil || u.name.upload != name.upload || u.state == uploadClosed {
		return nil
	}
	return u
}

// park says whether an upload whose call broke off is kept. It makes room by
// ending those that are parked longest.
func (o *uploads) park(u *upload) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case u.state == uploadClosed:
		return false
	case len(u.next) > 0: // another call is here already
		return true
	case o.closed, o.byBlob[u.name.key()] != u, u.received.Load() == 0, u.name.digest.Size() > o.limits.bytes, o.limits.count < 1:
		o.endLocked(u, errUploadEnded)
		return false
	}
	for len(o.parked) >= o.limits.count || o.held > o.limits.bytes-u.name.digest.Size() {
		o.endLocked(o.parked[0], errUploadEnded)
	}
	u.state = uploadParked
	o.parked = append(o.parked, u)
	o.held += u.name.digest.Size()
	u.deadline = time.Now().Add(o.limits.window)
	u.timer = time.AfterFunc(o.limits.window, func() { o.expire(u) })
	return true
}

func (o *uploads) unparkLocked(u *upload) {
	u.timer.Stop()
	o.parked = slices.DeleteFunc(o.parked, func(p *upload) bool { return p == u })
	o.held -= u.name.digest.Size()
}

// expire ends an upload whose client did not come back. A timer that was just
// stopped or reset may still come here.
func (o *uploads) expire(u *upload) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if u.state == uploadParked && !time.Now().Before(u.deadline) {
		o.endLocked(u, errUploadEnded)
	}
}

// end gives an upload up.
func (o *uploads) end(u *upload, cause error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.endLocked(u, cause)
}

func (o *uploads) endLocked(u *upload, cause error) {
	if u.state == uploadClosed {
		return
	}
	if u.state == uploadParked {
		o.unparkLocked(u)
	}
	u.state = uploadClosed
	if o.byBlob[u.name.key()] == u {
		delete(o.byBlob, u.name.key())
	}
	close(u.ended)
	u.cancel(cause)
}

// finish forgets an upload whose Put has returned.
func (o *uploads) finish(u *upload) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.endLocked(u, nil)
	delete(o.running, u)
}

// close ends what is parked, and sees to it that nothing is parked any more.
func (o *uploads) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	for len(o.parked) > 0 {
		o.endLocked(o.parked[0], execution.ErrDraining)
	}
}

// wait ends all uploads and waits for their Puts to return, until ctx ends.
func (o *uploads) wait(ctx context.Context) {
	o.mu.Lock()
	var running []*upload
	for u := range o.running {
		running = append(running, u)
		o.endLocked(u, execution.ErrDraining)
	}
	o.mu.Unlock()
	for _, u := range running {
		select {
		case <-u.done:
		case <-ctx.Done():
			return
		}
	}
}
