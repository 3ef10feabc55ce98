package reapi

import (
	"context"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/hearth-build/hearth/cas"
)

// upload is a blob on its way into a store, from one Write call or, where a
// call broke off, from several. It is what the store reads: between two calls
// the store's Put waits in Read, and the bytes that came are where the store
// put them. So an upload that goes through costs nothing more, and one that
// does not needs no place of its own.
type upload struct {
	owner  *uploads
	name   resource
	cancel context.CancelCauseFunc // of the Put
	next   chan *writeCall         // (1) the call that goes on with it
	ended  chan struct{}           // closed when no call will go on with it
	done   chan struct{}           // closed when Put has returned
	err    error                   // what it returned; read after done

	// Of the goroutine that puts.
	from *writeCall
	data payload // received, not read yet

	received atomic.Int64 // bytes from the start of the blob, without a gap

	// Guarded by owner.mu.
	state    uploadState
	call     *writeCall // the latest that was let in
	promised int64      // what QueryWriteStatus last said
	timer    *time.Timer
	deadline time.Time // when timer must find it parked still
}

// uploadState is what an upload waits for.
type uploadState int

const (
	uploadOpen   uploadState = iota // a call brings bytes
	uploadParked                    // none does, one may come
	uploadClosed                    // none may come any more
)

// writeCall is a Write call, as the source of an upload.
type writeCall struct {
	in       *incoming
	left     chan departure // (1) it broke off
	replaced chan struct{}  // closed when another call went on with the upload
}

// departure says how a call broke off.
type departure struct {
	err  error // what is wrong, if a client that is still there needs to know
	kept bool  // whether another call may go on
}

func newWriteCall(in *incoming) *writeCall {
	return &writeCall{in: in, left: make(chan departure, 1), replaced: make(chan struct{})}
}

// put stores the blob, and says so to those who wait for it.
func (u *upload) put(ctx context.Context, store cas.Putter) {
	u.err = store.Put(ctx, cas.NewContent(u.name.digest, u))
	u.owner.finish(u)
	close(u.done)
}

// Read implements io.Reader.
func (u *upload) Read(p []byte) (int, error) {
	for u.data.size() == 0 {
		in := u.from.in
		switch {
		case in.finished && in.offset == u.received.Load():
			return 0, io.EOF
		case in.finished:
			return 0, fmt.Errorf("%w: finish_write at %d bytes, but %d came before", errInvalid, in.offset, u.received.Load())
		}
		err := in.receive()
		if in.broken != nil {
			err = u.park(departure{err: err})
		}
		if err != nil {
			return 0, err
		}
		u.take()
	}
	return u.data.read(p), nil
}

// take gets what is new of the last message of the current call. A call may
// begin with bytes that came from the one before: those are as good.
func (u *upload) take() {
	in := u.from.in
	if fresh := in.offset - u.received.Load(); fresh > 0 {
		in.data.skip(in.data.size() - int(fresh))
		u.data = in.data
		u.received.Store(in.offset)
	}
	in.data = payload{}
}

// park waits for a call to go on after the current one broke off.
func (u *upload) park(d departure) error {
	d.kept = u.owner.park(u)
	u.from.left <- d
	if !d.kept {
		return d.err
	}
	select {
	case u.from = <-u.next:
		return nil
	case <-u.ended:
		return fmt.Errorf("the upload of %v ended at %d bytes, and nobody went on with it: %w", u.name.digest, u.received.Load(), d.err)
	}
}

// stuckPut is how long a call that broke off waits for the store to notice.
const stuckPut = 5 * time.Second

// wait returns when the call is over, and how many bytes the client may take
// for stored. The blob is stored only if that is all of them.
func (u *upload) wait(ctx context.Context, c *writeCall) (int64, error) {
	broken := ctx.Done()
	var stuck <-chan time.Time
	for {
		select {
		case <-u.done:
			return u.name.digest.Size(), u.err
		case d := <-c.left:
			if d.kept {
				return u.received.Load(), nil // for a client that only half-closed
			}
			return 0, d.err
		case <-c.replaced:
			return 0, fmt.Errorf("%w: another Write went on with this upload", errReplaced)
		case <-broken:
			broken, stuck = nil, time.After(stuckPut)
		case <-stuck:
			u.owner.end(u, context.Cause(ctx))
		}
	}
}
