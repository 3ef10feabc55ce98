package disk

import (
	"bufio"
	"errors"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// pieceSize is how many bytes of a table or a file of values are handed to the kernel at
// once. The library hands over 4 KiB, not at the bounds of pages, for which the kernel
// takes three times as long; larger pieces than this gain nothing.
const pieceSize = 64 << 10

// pieces is a file that is written in pieces.
type pieces struct {
	vfs.File
	fs  *waitFS
	buf *bufio.Writer // nil once the file is closed
}

// inPieces collects what is written to a file that nobody reads before it is synced.
func (w *waitFS) inPieces(f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	buf, ok := w.buffers.Get().(*bufio.Writer)
	if !ok {
		buf = bufio.NewWriterSize(nil, pieceSize)
	}
	buf.Reset(f)
	return &pieces{f, w, buf}, nil
}

// Write implements io.Writer.
func (p *pieces) Write(b []byte) (int, error) { return p.buf.Write(b) }

// Sync implements vfs.File.
func (p *pieces) Sync() error {
	if err := p.buf.Flush(); err != nil {
		return err
	}
	return p.File.Sync()
}

// SyncData implements vfs.File.
func (p *pieces) SyncData() error {
	if err := p.buf.Flush(); err != nil {
		return err
	}
	return p.File.SyncData()
}

// SyncTo implements vfs.File.
func (p *pieces) SyncTo(length int64) (full bool, err error) {
	if err := p.buf.Flush(); err != nil {
		return false, err
	}
	return p.File.SyncTo(length)
}

// Close implements io.Closer.
func (p *pieces) Close() error {
	if p.buf == nil {
		return p.File.Close()
	}
	err := p.buf.Flush()
	p.buf.Reset(nil)
	p.fs.buffers.Put(p.buf)
	p.buf = nil
	return errors.Join(err, p.File.Close())
}
