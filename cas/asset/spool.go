package asset

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/hearth-build/hearth/cas"
)

// memorySpool is what a spool keeps in memory.
const memorySpool = 1 << 20

// spool holds bytes until their digest is known: a few in memory, more in a file
// that has no name any more.
type spool struct {
	dir  string
	buf  bytes.Buffer
	file *os.File // nil while all is in memory
	size int64
	err  error // of the last Write
}

// Write implements io.Writer.
func (s *spool) Write(p []byte) (int, error) {
	if s.file == nil && s.size+int64(len(p)) > memorySpool {
		s.err = s.toFile()
	}
	if s.err != nil {
		return 0, s.err
	}
	if s.file == nil {
		n, err := s.buf.Write(p)
		s.size += int64(n)
		return n, err
	}
	n, err := s.file.Write(p)
	s.size += int64(n)
	s.err = spoolError(err)
	return n, s.err
}

func (s *spool) toFile() error {
	f, err := os.CreateTemp(s.dir, "asset-")
	if err != nil {
		return spoolError(err)
	}
	if err := os.Remove(f.Name()); err != nil { // the bytes go when the file is closed
		return spoolError(errors.Join(err, f.Close()))
	}
	if _, err := f.Write(s.buf.Bytes()); err != nil {
		return spoolError(errors.Join(err, f.Close()))
	}
	s.buf, s.file = bytes.Buffer{}, f
	return nil
}

// Close frees what the spool holds.
func (s *spool) Close() error {
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}

// ReadAt implements io.ReaderAt.
func (s *spool) ReadAt(p []byte, off int64) (int, error) {
	if s.file == nil {
		return bytes.NewReader(s.buf.Bytes()).ReadAt(p, off)
	}
	return s.file.ReadAt(p, off)
}

// reader reads all from the start.
func (s *spool) reader() io.Reader { return io.NewSectionReader(s, 0, s.size) }

// content returns the bytes as a blob. h is the hash of all bytes, or nil.
func (s *spool) content(f cas.Function, h hash.Hash) (*cas.Content, error) {
	if s.file == nil {
		return f.Content(s.buf.Bytes()), nil
	}
	if h == nil {
		h = f.New(s.size)
		if _, err := io.Copy(h, s.reader()); err != nil {
			return nil, spoolError(err)
		}
	}
	d, err := cas.ParseDigest(f, hex.EncodeToString(h.Sum(nil)), s.size)
	if err != nil {
		return nil, err
	}
	return cas.NewContent(d, s.reader()), nil
}

// spoolError says what happened to a spool; a full disk is a cas.ErrNoSpace.
func spoolError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return fmt.Errorf("%w: the file system for downloads is full (%w)", cas.ErrNoSpace, err)
	}
	return fmt.Errorf("keep a download until it is whole: %w", err)
}
