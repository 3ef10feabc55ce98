package memory

import (
	"bytes"
	"container/list"
	"context"
	"fmt"
	"io"
	"math"
	"slices"
	"sync"

	"github.com/hearth-build/hearth/cas"
)

// Store keeps blobs in memory. Make one with New.
type Store struct {
	max int64

	mu       sync.Mutex // guards all below
	blobs    map[cas.Digest]*blob
	unleased *list.List // of *blob, most recently used first
	leases   map[cas.Digest]int
	used     int64
}

type blob struct {
	digest  cas.Digest
	data    []byte
	element *list.Element // nil while the blob is leased
}

var (
	_ cas.Store  = (*Store)(nil)
	_ cas.Leaser = (*Store)(nil)
)

// New returns an empty Store for at most maxBytes of blobs; 0 means no limit.
func New(maxBytes int64) *Store {
	if maxBytes == 0 {
		maxBytes = math.MaxInt64
	}
	return &Store{
		max:      maxBytes,
		blobs:    make(map[cas.Digest]*blob),
		unleased: list.New(),
		leases:   make(map[cas.Digest]int),
	}
}

// Get implements cas.Getter.
func (s *Store) Get(ctx context.Context, d cas.Digest, offset int64) (io.ReadCloser, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	if offset < 0 || offset > d.Size() {
		return nil, fmt.Errorf("%w: offset %d of %v", cas.ErrOutOfRange, offset, d)
	}
	if d.IsEmptyBlob() {
		return reader{bytes.NewReader(nil)}, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.useLocked(d)
	if b == nil {
		return nil, &cas.MissingError{Digests: []cas.Digest{d}}
	}
	return reader{bytes.NewReader(b.data[offset:])}, nil
}

type reader struct{ *bytes.Reader }

// Close implements io.Closer.
func (reader) Close() error { return nil }

// useLocked returns a blob and restarts its eviction age.
func (s *Store) useLocked(d cas.Digest) *blob {
	b := s.blobs[d]
	if b != nil && b.element != nil {
		s.unleased.MoveToFront(b.element)
	}
	return b
}

// FindMissing implements cas.Finder.
func (s *Store) FindMissing(ctx context.Context, ds []cas.Digest) ([]cas.Digest, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var missing []cas.Digest
	seen := make(map[cas.Digest]bool)
	for _, d := range ds {
		if d.IsEmptyBlob() || s.useLocked(d) != nil || seen[d] {
			continue
		}
		seen[d] = true
		missing = append(missing, d)
	}
	return missing, nil
}

// Put implements cas.Putter. Writers of one blob do not wait for each other: the
// first to have all bytes stores them.
func (s *Store) Put(ctx context.Context, c *cas.Content) error {
	d := c.Digest()
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if d.IsEmptyBlob() || s.has(d) {
		return nil
	}
	if d.Size() > s.max {
		return fmt.Errorf("%w: %v, the store in memory holds %d bytes", cas.ErrTooLarge, d, s.max)
	}
	data, err := c.Owned()
	if err == nil {
		err = context.Cause(ctx)
	}
	if err == nil {
		err = s.add(d, data)
	}
	if err != nil {
		return fmt.Errorf("store blob %v: %w", d, err)
	}
	return nil
}

func (s *Store) has(d cas.Digest) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.useLocked(d) != nil
}

func (s *Store) add(d cas.Digest, data []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.useLocked(d) != nil { // another Put of it was quicker
		return nil
	}
	for s.used > s.max-d.Size() {
		oldest := s.unleased.Back()
		if oldest == nil {
			return fmt.Errorf("%w: %d of the %d bytes of memory for blobs are held by actions in progress: raise the limit or run fewer at once",
				cas.ErrNoSpace, s.used, s.max)
		}
		b := oldest.Value.(*blob)
		s.unleased.Remove(oldest)
		delete(s.blobs, b.digest)
		s.used -= b.digest.Size()
	}
	b := &blob{digest: d, data: data}
	s.blobs[d] = b
	s.used += d.Size()
	if s.leases[d] == 0 {
		b.element = s.unleased.PushFront(b)
	}
	return nil
}

// Lease implements cas.Leaser.
func (s *Store) Lease(ds []cas.Digest) (release func()) {
	ds = slices.Clone(ds)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range ds {
		s.leases[d]++
		if b := s.blobs[d]; b != nil && b.element != nil {
			s.unleased.Remove(b.element)
			b.element = nil
		}
	}
	return sync.OnceFunc(func() { s.release(ds) })
}

func (s *Store) release(ds []cas.Digest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range ds {
		if s.leases[d]--; s.leases[d] > 0 {
			continue
		}
		delete(s.leases, d)
		if b := s.blobs[d]; b != nil {
			b.element = s.unleased.PushFront(b)
		}
	}
}
