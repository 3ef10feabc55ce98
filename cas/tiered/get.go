package tiered

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/hearth-build/hearth/cas"
)

// Get implements cas.Getter. A blob that only the remote store has is kept while
// it is read. Whoever reads but a part of it lets go of the copy, too.
func (s *Store) Get(ctx context.Context, d cas.Digest, offset int64) (io.ReadCloser, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	if offset < 0 || offset > d.Size() {
		return nil, fmt.Errorf("%w: offset %d of %v", cas.ErrOutOfRange, offset, d)
	}
	if d.IsEmptyBlob() {
		return io.NopCloser(bytes.NewReader(nil)), nil
	}
	blob, err := s.local.Get(ctx, d, offset)
	if final(ctx, err) {
		return blob, err
	}
	if !errors.Is(err, cas.ErrNotFound) {
		s.warn(ctx, "read", d, err)
	}
	return s.follow(ctx, d, offset)
}

// follow reads a blob while it comes from the remote store.
func (s *Store) follow(ctx context.Context, d cas.Digest, offset int64) (io.ReadCloser, error) {
	var place *seat
	f, err := s.joinFetch(ctx, d, func(w *window) { place = w.attach(offset) })
	if err != nil {
		return nil, err
	}
	w := f.value
	if place == nil {
		place = w.attach(offset) // somebody else began
	}
	r := &reader{store: s, ctx: ctx, digest: d, flight: f, seat: place, at: offset}
	if err := w.awaitOpen(ctx, f.done); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	if !w.isOpen() && f.err != nil { // it is over: awaitOpen has waited for that
		return nil, errors.Join(f.err, r.Close())
	}
	return r, nil
}

func (s *Store) joinFetch(ctx context.Context, d cas.Digest, prepare func(w *window)) (*flight[*window], error) {
	begin := func() *window {
		w := newWindow(d.Size(), int64(s.options.WindowBytes), s.options.Patience)
		prepare(w)
		return w
	}
	return s.fetches.join(ctx, d, begin, func(ctx context.Context, w *window) error { return s.fetch(ctx, d, w) })
}

// fetch copies a blob into the local tier. Without an error all bytes that the
// window gave are proven.
func (s *Store) fetch(ctx context.Context, d cas.Digest, w *window) error {
	blob, err := s.remote.Get(ctx, d, 0)
	if err != nil {
		if errors.Is(err, cas.ErrNotFound) {
			s.known.remove(d)
		}
		return err
	}
	w.open()
	source := &tee{ctx: ctx, r: blob, w: w}
	err = s.copy(ctx, cas.NewContent(d, source), w)
	switch {
	case source.err != nil: // not the local tier's
		err = source.err
	case errors.Is(err, cas.ErrMismatch):
		// Whoever asked made no mistake, and it may be the network's.
		s.known.remove(d)
		err = fmt.Errorf("%w: the remote store sent wrong bytes: %v", cas.ErrUnavailable, err) //nolint:errorlint // the caller's digest is right
	}
	return errors.Join(err, blob.Close())
}

// copy reads the content to its end, into the local tier if that takes it.
func (s *Store) copy(ctx context.Context, content *cas.Content, w *window) error {
	err := s.local.Put(ctx, content)
	w.keep(err)
	if err == nil || ctx.Err() != nil || errors.Is(err, cas.ErrMismatch) {
		return err
	}
	s.warn(ctx, "keep", content.Digest(), err)
	if !w.serveReaders() {
		return nil
	}
	_, err = io.Copy(io.Discard, content)
	return err
}

// tee is what the remote store sends, shown to the readers as it is read.
type tee struct {
	ctx context.Context
	r   io.Reader
	w   *window
	err error
}

// Read implements io.Reader.
func (t *tee) Read(p []byte) (int, error) {
	n, err := t.r.Read(p)
	if writeErr := t.w.write(t.ctx, p[:n]); writeErr != nil {
		err = writeErr
	}
	if err != nil && !errors.Is(err, io.EOF) {
		t.err = err
	}
	return n, err
}
