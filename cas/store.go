package cas

import (
	"bytes"
	"context"
	"fmt"
	"io"
)

// Getter opens blobs.
type Getter interface {
	// Get opens the blob for reading from offset (0 to its size) to its end.
	// The caller closes the reader. A blob that is evicted meanwhile either
	// can still be read to its end or fails; it never ends early with io.EOF.
	// Absent: ErrNotFound. Bad offset: ErrOutOfRange. Safe for concurrent use.
	Get(ctx context.Context, d Digest, offset int64) (io.ReadCloser, error)
}

// Putter stores blobs.
type Putter interface {
	// Put stores the content's bytes under its digest. It is all or nothing:
	// the blob is visible only when Put has returned nil, having read the
	// content to io.EOF (which proves the hash). Storing a present blob again
	// succeeds and may read nothing. Full: ErrNoSpace. Safe for concurrent
	// use, also with the same digest.
	Put(ctx context.Context, c *Content) error
}

// Finder tells which blobs are absent.
type Finder interface {
	// FindMissing returns those of ds that the store lacks, each once, and
	// counts as a use of the others: it restarts their eviction age.
	FindMissing(ctx context.Context, ds []Digest) ([]Digest, error)
}

// Store holds blobs. Each implementation passes the suite in castest.
type Store interface {
	Getter
	Putter
	Finder
}

// Linker is an ability that a Store has when its blobs are files of a local
// file system.
type Linker interface {
	// Link gives the blob's own inode a second name in the directory dirFD,
	// with mode 0555 if executable, else 0444. The inode belongs to the store:
	// only use it where nobody who sees the name can write to it or change its
	// mode. Absent: ErrNotFound. ErrCannotLink where no link can be had (other
	// file system, too many links): copy instead.
	Link(ctx context.Context, d Digest, dirFD int, name string, executable bool) error
}

// Leaser is an ability of a Store that evicts.
type Leaser interface {
	// Lease protects the blobs from eviction until release is called, whether
	// they are present yet or not. Release is called exactly once.
	Lease(ds []Digest) (release func())
}

// BatchPutter is an ability of a Store that takes many small blobs together at
// less cost than one by one. Use PutAll, which serves any Store.
type BatchPutter interface {
	// PutAll is Put for each content. The result has as many errors, nil for
	// each blob that is stored; they are independent of each other.
	PutAll(ctx context.Context, cs []*Content) []error
}

// BatchGetter is an ability of a Store that returns many small blobs together
// at less cost than one by one. Use GetAll, which serves any Store.
type BatchGetter interface {
	// GetAll returns whole blobs, and an error for each that there is none of:
	// both results are as long as ds. The bytes may be the store's: nobody
	// changes them. The caller sees to it that all together fit into memory.
	GetAll(ctx context.Context, ds []Digest) (data [][]byte, errs []error)
}

// Prefetcher is an ability of a Store whose blobs may be far away.
type Prefetcher interface {
	// Prefetch brings blobs near, many at a time, for somebody who is about to
	// read or link them all; blobs that are near already cost little. Absent ones
	// come as one MissingError. The caller leases the blobs if they are to stay.
	Prefetch(ctx context.Context, ds []Digest) error
}

// Limiter is an ability of a Store that does not take every blob.
type Limiter interface {
	// Limits returns what the store takes. Where that cannot be known now it is
	// an error, such as ErrUnavailable.
	Limits(ctx context.Context) (Limits, error)
}

// Limits is what a Store takes.
type Limits struct {
	Functions []Function // the digest functions, the one to prefer first
	MaxBytes  int64      // of one blob; 0: any
}

// PutAll stores blobs, together if the store can.
func PutAll(ctx context.Context, p Putter, cs []*Content) []error {
	if b, ok := p.(BatchPutter); ok {
		return b.PutAll(ctx, cs)
	}
	errs := make([]error, len(cs))
	for i, c := range cs {
		errs[i] = p.Put(ctx, c)
	}
	return errs
}

// GetAll returns whole blobs that nobody changes, together if the store can.
func GetAll(ctx context.Context, g Getter, ds []Digest) (data [][]byte, errs []error) {
	if b, ok := g.(BatchGetter); ok {
		return b.GetAll(ctx, ds)
	}
	data, errs = make([][]byte, len(ds)), make([]error, len(ds))
	for i, d := range ds {
		data[i], errs[i] = ReadAll(ctx, g, d, d.size)
	}
	return data, errs
}

// ReadAll returns a whole blob that is at most limit bytes long. The result is
// the caller's.
func ReadAll(ctx context.Context, g Getter, d Digest, limit int64) ([]byte, error) {
	if d.size > limit {
		return nil, fmt.Errorf("%w: %v, at most %d bytes are read here", ErrTooLarge, d, limit)
	}
	if d.IsEmptyBlob() {
		return []byte{}, nil
	}
	r, err := g.Get(ctx, d, 0)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data := make([]byte, d.size)
	if _, err := io.ReadFull(r, data); err != nil {
		if err == io.EOF { // which callers would take for an end
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("read blob %v: %w", d, err)
	}
	return data, nil
}

// PutBytes stores data under the digest that it has by f, and returns it.
func PutBytes(ctx context.Context, p Putter, f Function, data []byte) (Digest, error) {
	c := f.Content(data)
	return c.digest, p.Put(ctx, c)
}

// Checked is NewContent for bytes in memory.
func Checked(d Digest, data []byte) *Content { return NewContent(d, bytes.NewReader(data)) }
