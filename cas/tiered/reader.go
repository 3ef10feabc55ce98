package tiered

import (
	"context"
	"errors"
	"io"

	"github.com/hearth-build/hearth/cas"
)

// reader reads a blob from the window of its fetch as long as it keeps up, and
// then from the local tier. It has the context of its Get, since it may have to
// wait and to open the blob again.
type reader struct {
	store  *Store
	ctx    context.Context
	digest cas.Digest
	flight *flight[*window]
	seat   *seat // nil: wait for the fetch to end
	at     int64
	rest   io.ReadCloser // nil while the fetch goes on
	closed bool
}

// Read implements io.Reader.
func (r *reader) Read(p []byte) (int, error) {
	for {
		if r.closed {
			return 0, errors.New("the blob was closed")
		}
		if r.rest != nil {
			return r.rest.Read(p)
		}
		if err := context.Cause(r.ctx); err != nil {
			return 0, err
		}
		if n, err := r.step(p); n > 0 || err != nil || len(p) == 0 {
			return n, err
		}
	}
}

// step gives bytes, an end, or neither after it has waited for something.
func (r *reader) step(p []byte) (int, error) {
	proven := false
	select {
	case <-r.flight.done:
		if r.flight.err != nil {
			return 0, r.flight.err
		}
		proven = true
	default:
	}
	var changed <-chan struct{}
	if r.seat != nil {
		n, attached, more := r.flight.value.read(r.seat, p, proven)
		if n > 0 || len(p) == 0 {
			r.at += int64(n)
			return n, nil
		}
		if changed = more; !attached {
			r.seat = nil
		}
	}
	switch {
	case proven && r.at == r.digest.Size():
		return 0, io.EOF
	case proven:
		return 0, r.reopen()
	default:
		return 0, r.wait(changed)
	}
}

func (r *reader) wait(changed <-chan struct{}) error {
	select {
	case <-changed:
		return nil
	case <-r.flight.done:
		return nil
	case <-r.ctx.Done():
		return context.Cause(r.ctx)
	}
}

// reopen reads on where the blob is now: in the local tier or, if it was not kept
// there or not for long, by another fetch.
func (r *reader) reopen() (err error) {
	r.rest, err = r.store.Get(r.ctx, r.digest, r.at)
	return err
}

// Close implements io.Closer.
func (r *reader) Close() error {
	if r.closed {
		return nil
	}
	r.closed = true
	if r.seat != nil {
		r.flight.value.detach(r.seat)
	}
	r.store.fetches.leave(r.digest, r.flight)
	if r.rest == nil {
		return nil
	}
	return r.rest.Close()
}
