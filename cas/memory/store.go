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
	reserved int64 // for blobs on their way in
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

// Put implements cas.Putter.
func (s *Store) Put(ctx context.Context, c *cas.Content) error {
	d := c.Digest()
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if d.IsEmptyBlob() {
		return nil
	}
	present, err := s.reserve(d)
	if present || err != nil {
		return err
	}
	data, err := c.Bytes()
	if err == nil {
		err = context.Cause(ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reserved -= d.Size()
	if err != nil {
		return fmt.Errorf("store blob %v: %w", d, err)
	}
	s.addLocked(d, data)
	return nil
}

// reserve makes room for a blob, or says that it is there already.
func (s *Store) reserve(d cas.Digest) (present bool, err error) {
	if d.Size() > s.max {
		return false, fmt.Errorf("%w: %v, the store in memory holds %d bytes", cas.ErrTooLarge, d, s.max)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.useLocked(d) != nil {
		return true, nil
	}
	for s.used+s.reserved > s.max-d.Size() {
		oldest := s.unleased.Back()
		if oldest == nil {
			return false, fmt.Errorf("%w: %d of the %d bytes of memory for blobs are held by actions and uploads in progress",
				cas.ErrNoSpace, s.used+s.reserved, s.max)
		}
		b := oldest.Value.(*blob)
		s.unleased.Remove(oldest)
		delete(s.blobs, b.digest)
		s.used -= b.digest.Size()
	}
	s.reserved += d.Size()
	return false, nil
}

func (s *Store) addLocked(d cas.Digest, data []byte) {
	if s.useLocked(d) != nil { // another Put of it was quicker
		return
	}
	b := &blob{digest: d, data: data}
	s.blobs[d] = b
	s.used += d.Size()
	if s.leases[d] == 0 {
		b.element = s.unleased.PushFront(b)
	}
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
