package chunking

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/hearth-build/hearth/cas"
)

// Splice stores the blob that consists of these chunks, which may repeat. A blob
// that is there already is not read again; either way blob and chunks count as
// used.
// Chunks that are absent: a cas.MissingError. Chunks that are not the blob's:
// cas.ErrMismatch, and if their sizes say so already, nothing is read. In both
// cases nothing is stored.
func Splice(ctx context.Context, store cas.Store, blob cas.Digest, chunks []cas.Digest) error {
	if err := checkSizes(blob, chunks); err != nil {
		return err
	}
	held := hold(store)
	defer held.release()
	held.add(chunks...)
	missing, err := store.FindMissing(ctx, append([]cas.Digest{blob}, chunks...))
	if err != nil {
		return err
	}
	if !slices.Contains(missing, blob) {
		return nil
	}
	if !slices.Contains(chunks, blob) {
		missing = slices.DeleteFunc(missing, func(d cas.Digest) bool { return d == blob })
	}
	if len(missing) > 0 {
		return &cas.MissingError{Digests: missing}
	}
	joined := &concatenation{
		open:   func(d cas.Digest) (io.ReadCloser, error) { return store.Get(ctx, d, 0) },
		chunks: chunks,
	}
	defer joined.close()
	return store.Put(ctx, cas.NewContent(blob, joined))
}

// checkSizes adds up the chunks without overflowing.
func checkSizes(blob cas.Digest, chunks []cas.Digest) error {
	left := blob.Size()
	for i, c := range chunks {
		if c.Size() > left {
			return fmt.Errorf("%w: the first %d of %d chunks are larger than %v", cas.ErrMismatch, i+1, len(chunks), blob)
		}
		left -= c.Size()
	}
	if left > 0 {
		return fmt.Errorf("%w: the %d chunks lack %d bytes of %v", cas.ErrMismatch, len(chunks), left, blob)
	}
	return nil
}

// concatenation reads chunks one after the other, with one of them open at most.
type concatenation struct {
	open    func(cas.Digest) (io.ReadCloser, error)
	chunks  []cas.Digest // not begun yet
	current io.ReadCloser
}

// Read implements io.Reader.
func (c *concatenation) Read(p []byte) (int, error) {
	for {
		if c.current == nil {
			if len(c.chunks) == 0 {
				return 0, io.EOF
			}
			var err error
			if c.current, err = c.open(c.chunks[0]); err != nil {
				c.current = nil
				return 0, err
			}
			c.chunks = c.chunks[1:]
		}
		n, err := c.current.Read(p)
		if err != io.EOF {
			return n, err
		}
		c.close()
		if n > 0 {
			return n, nil
		}
	}
}

func (c *concatenation) close() {
	if c.current != nil {
		c.current.Close() // was only read
		c.current = nil
	}
}
