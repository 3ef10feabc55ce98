package asset

import (
	"context"
	"io"
)

// limitedReader fails when more than left bytes are read, or ctx is done.
type limitedReader struct {
	ctx  context.Context //nolint:containedctx // lives for the call that unpacks one archive
	r    io.Reader
	left int64
	max  int64 // for the message
}

// Read implements io.Reader.
func (l *limitedReader) Read(p []byte) (int, error) {
	if l.ctx.Err() != nil {
		return 0, context.Cause(l.ctx)
	}
	n, err := l.r.Read(p)
	if l.left -= int64(n); l.left < 0 {
		return 0, fault(ErrTooLarge, "the archive holds more than %d bytes, the limit for unpacking", l.max)
	}
	return n, err
}

// limitedReaderAt fails when more than left bytes are read, until it is unlimited.
type limitedReaderAt struct {
	r         io.ReaderAt
	left      int64
	unlimited bool
}

// ReadAt implements io.ReaderAt.
func (l *limitedReaderAt) ReadAt(p []byte, off int64) (int, error) {
	if l.left -= int64(len(p)); l.left < 0 && !l.unlimited {
		return 0, fault(ErrTooLarge, "the zip file has a list of files that is too long")
	}
	return l.r.ReadAt(p, off)
}
