package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/hearth-build/hearth/cas"
)

// Store is one namespace of a Disk.
type Store struct {
	disk *Disk
	id   namespaceID
	dir  string
}

var (
	_ cas.Store  = (*Store)(nil)
	_ cas.Linker = (*Store)(nil)
	_ cas.Leaser = (*Store)(nil)
)

// maxDoubts is how often one call has a blob checked that changes under it.
const maxDoubts = 3

// Get implements cas.Getter.
func (s *Store) Get(ctx context.Context, d cas.Digest, offset int64) (io.ReadCloser, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	if offset < 0 || offset > d.Size() {
		return nil, fmt.Errorf("%w: offset %d of %v", cas.ErrOutOfRange, offset, d)
	}
	if d.IsEmptyBlob() {
		return blobReader{bytes.NewReader(nil)}, nil
	}
	var r io.ReadCloser
	err := s.withBlob(ctx, d, func(b blob) error {
		var err error
		if b.isLarge() {
			r, err = b.open(offset)
			return err
		}
		var data []byte
		if data, err = s.disk.readAll(b); err == nil {
			r = blobReader{bytes.NewReader(data[offset:])}
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return r, nil
}

type blobReader struct{ *bytes.Reader }

// Close implements io.Closer.
func (blobReader) Close() error { return nil }

// withBlob calls f with a blob that is present and not in doubt. A file that f
// finds doubtful (errDoubtful) is checked, and f called again if it turns out to
// be right; else the blob counts as absent.
func (s *Store) withBlob(ctx context.Context, d cas.Digest, f func(b blob) error) error {
	k := newKey(s.id, d)
	for range maxDoubts {
		found := s.disk.index.use(k)
		if found.presence == unchecked {
			if _, err := s.disk.verify(ctx, k); err != nil {
				return err
			}
			found = s.disk.index.use(k)
		}
		if found.presence != present {
			break
		}
		err := f(blob{found: found, digest: d, path: s.disk.path(found.entry), faults: s.disk.options.faults})
		if !errors.Is(err, errDoubtful) {
			return err
		}
		if !found.entry.small { // else it was dropped at once
			s.disk.index.doubt(found.entry)
		}
	}
	return &cas.MissingError{Digests: []cas.Digest{d}}
}

// FindMissing implements cas.Finder. It looks at no file, except at those that
// are in doubt.
func (s *Store) FindMissing(ctx context.Context, ds []cas.Digest) ([]cas.Digest, error) {
	var missing []cas.Digest
	var seen [findChunk]presence
	for len(ds) > 0 {
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		chunk := ds[:min(len(ds), findChunk)]
		ds = ds[len(chunk):]
		s.disk.index.useAll(s.id, chunk, func(i int, p presence, _ *entry) { seen[i] = p })
		for i, d := range chunk {
			ok, err := seen[i] == present, error(nil)
			if seen[i] == unchecked {
				ok, err = s.disk.verify(ctx, newKey(s.id, d))
			}
			if err != nil {
				return nil, err
			}
			if !ok && !d.IsEmptyBlob() {
				missing = append(missing, d)
			}
		}
	}
	return unique(missing), nil
}

// unique removes repeated digests.
func unique(ds []cas.Digest) []cas.Digest {
	seen := make(map[cas.Digest]struct{}, len(ds))
	kept := ds[:0]
	for _, d := range ds {
		if _, again := seen[d]; !again {
			seen[d] = struct{}{}
			kept = append(kept, d)
		}
	}
	return kept
}

// Lease implements cas.Leaser.
func (s *Store) Lease(ds []cas.Digest) (release func()) {
	keys := make([]key, 0, len(ds))
	for _, d := range ds {
		if !d.IsEmptyBlob() {
			keys = append(keys, newKey(s.id, d))
		}
	}
	s.disk.index.pin(keys)
	return sync.OnceFunc(func() { s.disk.index.unpin(keys) })
}
