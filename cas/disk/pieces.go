package disk

import (
	"bufio"
	"errors"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sys/unix"
)

// pieceSize is how many bytes of a table or a file of values are handed to the kernel at
// once. The library hands over 4 KiB, not at the bounds of pages, for which the kernel
// takes three times as long; larger pieces than this gain nothing.
const pieceSize = 256 << 10

// pieces is a file that is written in pieces. Nobody reads it before it is synced. What
// SyncTo is asked for lies a megabyte behind what was written: it is in the kernel.
type pieces struct {
	*waitFile
	buf     *bufio.Writer // nil once the file is closed
	written int64
	reused  bool // what the file held before may lie behind what is written
}

func (w *waitFS) inPieces(f vfs.File) *pieces {
	buf, ok := w.buffers.Get().(*bufio.Writer)
	if !ok {
		buf = bufio.NewWriterSize(nil, pieceSize)
	}
	p := &pieces{waitFile: &waitFile{File: f, fs: w}, buf: buf}
	buf.Reset(p.waitFile)
	return p
}

// Write implements io.Writer.
func (p *pieces) Write(b []byte) (n int, err error) {
	n, err = p.buf.Write(b)
	p.written += int64(n)
	return n, err
}

// Sync implements vfs.File.
func (p *pieces) Sync() error {
	if err := p.finish(); err != nil {
		return err
	}
	return p.waitFile.Sync()
}

// SyncData implements vfs.File.
func (p *pieces) SyncData() error {
	if err := p.finish(); err != nil {
		return err
	}
	return p.waitFile.SyncData()
}

// finish makes the file what was written, which may fail only for good.
func (p *pieces) finish() error {
	p.hasty = false
	if err := p.buf.Flush(); err != nil || !p.reused {
		return err
	}
	return p.fs.do(func() error {
		return ignoringEINTR(func() error { return unix.Ftruncate(int(p.Fd()), p.written) })
	})
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
