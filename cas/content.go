package cas

import (
	"bytes"
	"fmt"
	"hash"
	"io"
)

// Content is a blob on its way into a store: the digest it claims and the
// bytes, checked as they are read. Read returns io.EOF only when size and hash
// both matched, an ErrMismatch as soon as either cannot match any more.
// A Content is read once, by one goroutine.
type Content struct {
	digest Digest
	r      io.Reader
	h      hash.Hash // nil once the digest was computed from these very bytes
	n      int64
	err    error
}

// NewContent checks r against d.
func NewContent(d Digest, r io.Reader) *Content {
	return &Content{digest: d, r: r, h: d.function.New(d.size)}
}

// Content computes the digest of data, which therefore needs no second check.
// The caller does not change data afterwards.
func (f Function) Content(data []byte) *Content {
	return &Content{digest: f.Sum(data), r: bytes.NewReader(data)}
}

// Digest returns the digest that the bytes claim.
func (c *Content) Digest() Digest { return c.digest }

// Read implements io.Reader.
func (c *Content) Read(p []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	n, err := c.r.Read(p)
	c.n += int64(n)
	if c.h != nil {
		c.h.Write(p[:n])
	}
	switch {
	case c.n > c.digest.size:
		c.err = fmt.Errorf("%w: more than the %d bytes of %v", ErrMismatch, c.digest.size, c.digest)
		return 0, c.err
	case err == io.EOF:
		c.err = c.check()
		return n, c.err
	case err != nil:
		c.err = err
	}
	return n, err
}

func (c *Content) check() error {
	if c.n < c.digest.size {
		return fmt.Errorf("%w: %d bytes came for %v", ErrMismatch, c.n, c.digest)
	}
	if c.h != nil {
		if got := c.digest.function.digest(c.h, c.n); got != c.digest {
			return fmt.Errorf("%w: the bytes sent as %v are %v", ErrMismatch, c.digest, got)
		}
	}
	return io.EOF
}
