package tiered

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/hearth-build/hearth/cas"
)

// smallBlob is the size up to which a content is read before any tier sees it, so
// that the remote tier can have it also if the local one fails.
const smallBlob = 128 << 10

// Put implements cas.Putter. The content goes into the local tier, and from there
// to the remote one, which can so be told any part of it again.
func (s *Store) Put(ctx context.Context, c *cas.Content) error {
	d := c.Digest()
	if err := s.admit(ctx, d); err != nil || d.IsEmptyBlob() {
		return err
	}
	defer s.local.Lease([]cas.Digest{d})()
	err := s.put(ctx, c)
	if errors.Is(err, cas.ErrNotFound) && c.Unread() {
		// The local tier had a copy and found it damaged when it was to be sent.
		err = s.put(ctx, c)
	}
	return err
}

// admit refuses what the remote store would not take, before any of it is read.
func (s *Store) admit(ctx context.Context, d cas.Digest) error {
	limits, err := s.Limits(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("store blob %v: %w", d, err)
	case !slices.Contains(limits.Functions, d.Function()):
		return fmt.Errorf("%w: the remote store does not serve %v, only %v", cas.ErrInvalidDigest, d.Function(), limits.Functions)
	case limits.MaxBytes > 0 && d.Size() > limits.MaxBytes:
		return fmt.Errorf("%w: %v, the remote store takes at most %d bytes", cas.ErrTooLarge, d, limits.MaxBytes)
	}
	return nil
}

// Limits implements cas.Limiter: they are the remote store's.
func (s *Store) Limits(ctx context.Context) (cas.Limits, error) {
	if err := context.Cause(ctx); err != nil {
		return cas.Limits{}, err
	}
	if l, ok := s.remote.(cas.Limiter); ok {
		return l.Limits(ctx)
	}
	return cas.Limits{Functions: cas.Functions()}, nil
}

func (s *Store) put(ctx context.Context, c *cas.Content) error {
	d := c.Digest()
	if d.Size() <= smallBlob {
		return s.putSmall(ctx, c)
	}
	err := s.local.Put(ctx, c)
	switch {
	case err == nil:
		return s.push(ctx, d, s.local)
	case final(ctx, err), errors.Is(err, cas.ErrMismatch), !c.Unread():
		return err
	}
	s.warn(ctx, "store", d, err)
	if err := s.remote.Put(ctx, c); err != nil {
		return err
	}
	s.known.add(d)
	return nil
}

// putSmall stores a blob that fits into memory.
func (s *Store) putSmall(ctx context.Context, c *cas.Content) error {
	d := c.Digest()
	if missing, err := s.local.FindMissing(ctx, []cas.Digest{d}); err == nil && len(missing) == 0 {
		return s.push(ctx, d, s.local)
	}
	data, err := c.Owned()
	if err != nil {
		return fmt.Errorf("store blob %v: %w", d, err)
	}
	err = s.local.Put(ctx, d.Function().Content(data))
	if cause := context.Cause(ctx); cause != nil {
		return fmt.Errorf("store blob %v: %w", d, cause)
	}
	if err != nil {
		s.warn(ctx, "store", d, err)
	}
	return s.push(ctx, d, inMemory(data))
}

// inMemory is a Getter that has one blob.
type inMemory []byte

// Get implements cas.Getter.
func (m inMemory) Get(_ context.Context, _ cas.Digest, offset int64) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(m[offset:])), nil
}

// push makes sure that the remote tier has a blob. It is sent once for all that
// want it there at the same time.
func (s *Store) push(ctx context.Context, d cas.Digest, from cas.Getter) error {
	if s.known.has(d) {
		return nil
	}
	_, err := s.uploads.do(ctx, d, func() cas.Getter { return from }, func(ctx context.Context, from cas.Getter) error {
		if s.known.has(d) { // somebody was done with it since it was looked at
			return nil
		}
		defer s.local.Lease([]cas.Digest{d})() // its first caller may be gone
		return s.send(ctx, d, from)
	})
	if err != nil {
		return fmt.Errorf("store blob %v remotely: %w", d, err)
	}
	return nil
}

func (s *Store) send(ctx context.Context, d cas.Digest, from cas.Getter) error {
	err := s.sendOnce(ctx, d, from)
	if err == nil {
		s.known.add(d)
	}
	return err
}

func (s *Store) sendOnce(ctx context.Context, d cas.Digest, from cas.Getter) error {
	if u, ok := s.remote.(Uploader); ok {
		return u.Upload(ctx, d, from)
	}
	blob, err := from.Get(ctx, d, 0)
	if err != nil {
		return err
	}
	return errors.Join(s.remote.Put(ctx, cas.NewContent(d, blob)), blob.Close())
}
