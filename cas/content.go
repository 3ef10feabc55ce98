package cas

import (
	"bytes"
	"fmt"
	"hash"
	"io"
	"slices"
)

// Content is a blob on its way into a store: the digest it claims and the
// bytes, checked as they are read. Read returns io.EOF only when size and hash
// both matched, an ErrMismatch as soon as either cannot match any more.
// A Content is read once, by one goroutine.
type Content struct {
	digest Digest
	r      io.Reader // nil until it is needed, where data has all bytes
	data   []byte    // all bytes, where the digest was computed from them
	whole  int64     // of which data are a part; 0: of nothing
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
	return &Content{digest: f.Sum(data), data: data}
}

// Verify returns data as the content of d, if that is what they are. The caller
// does not change them afterwards.
func Verify(d Digest, data []byte) (*Content, error) {
	var room [maxHexLen]byte
	if int64(len(data)) != d.size || string(d.function.appendHash(room[:0], data)) != d.hash {
		return nil, fmt.Errorf("%w: the bytes sent as %v are %v", ErrMismatch, d, d.function.Sum(data))
	}
	return &Content{digest: d, data: data}, nil
}

// Digest returns the digest that the bytes claim.
func (c *Content) Digest() Digest { return c.digest }

// Unread reports whether nothing was read yet, so that a Putter which was not
// able to take the content can be followed by another one.
func (c *Content) Unread() bool { return c.n == 0 && c.err == nil }

// Read implements io.Reader.
func (c *Content) Read(p []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	if c.r == nil {
		c.r = bytes.NewReader(c.data)
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

// Bytes reads the whole content to io.EOF and returns it, in place of Read. The
// bytes may be those that the content was made of: nobody changes them, and who keeps
// them may keep a whole message with them (see Owned). Memory grows with what really
// comes, not with the size that the digest claims.
func (c *Content) Bytes() ([]byte, error) {
	if c.data != nil && c.err == nil && c.n == 0 {
		c.n, c.err = c.digest.size, io.EOF
		return c.data, nil
	}
	// One byte more than the size, so that the read that fills the buffer is
	// followed by the one that finds the end without growing it.
	buf := make([]byte, 0, min(c.digest.size+1, maxTrust))
	for {
		n, err := c.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		switch {
		case err == io.EOF:
			return buf, nil
		case err != nil:
			return nil, err
		case len(buf) == cap(buf):
			more := min(c.digest.size+1-int64(len(buf)), int64(cap(buf)))
			buf = slices.Grow(buf, int(max(more, 1)))
		}
	}
}

// PartOf notes that the bytes that the content was made of are a part of so many, all of
// which stay in memory as long as one of them is kept.
func (c *Content) PartOf(whole int64) { c.whole = whole }

// Whole returns how many bytes stay in memory as long as those that Bytes returns, if
// these are a part of others, and otherwise 0.
func (c *Content) Whole() int64 { return c.whole }

// Owned is Bytes for who keeps them: at most as much again is kept with them.
func (c *Content) Owned() ([]byte, error) {
	data, err := c.Bytes()
	if 2*int64(len(data)) < c.whole {
		data = bytes.Clone(data)
	}
	return data, err
}

// maxTrust is how much memory a claimed size gets before any byte has come.
const maxTrust = 1 << 20

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
