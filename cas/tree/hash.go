package tree

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/hearth-build/hearth/cas"
)

const (
	// keepBytes bounds the small files that one Capture holds in memory, so that
	// they are read and hashed once.
	keepBytes = 16 << 20
	// hashBuffer is how much of a large file is read at a time.
	hashBuffer = 256 << 10
)

// hash finds the digest of the i-th file.
func (c *capture) hash(ctx context.Context, i int) error {
	o := c.files[i]
	f, size, err := c.openFile(o)
	if err != nil {
		return err
	}
	defer f.Close()
	if size <= smallFile {
		return c.hashSmall(o, f, size)
	}
	buf, ok := c.buffers.Get().(*[]byte)
	if !ok {
		b := make([]byte, hashBuffer)
		buf = &b
	}
	defer c.buffers.Put(buf)
	h := c.out.function.New(size)
	n, err := io.CopyBuffer(struct{ io.Writer }{h}, contextReader{ctx, io.LimitReader(f, size+1)}, *buf)
	if err != nil {
		return fmt.Errorf("read output %s: %w", quote(o.path), err)
	}
	if n != size {
		return changed(o.path)
	}
	o.digest, err = cas.ParseDigest(c.out.function, hex.EncodeToString(h.Sum(nil)), size)
	return err
}

// openFile opens an output and checks it against the limits, by the size it
// claims: a sparse file is as large as that to everyone who fetches it.
func (c *capture) openFile(o *outFile) (*os.File, int64, error) {
	fd, err := c.openOutput(o.path, openAny)
	if err != nil {
		return nil, 0, err
	}
	f := os.NewFile(uintptr(fd), o.name)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		f.Close()
		return nil, 0, fmt.Errorf("look at output %s: %w", quote(o.path), err)
	}
	if err := c.checkFile(o, &st); err != nil {
		f.Close()
		return nil, 0, err
	}
	o.meta = c.metaOf(o.path, &st)
	return f, st.Size, nil
}

func (c *capture) checkFile(o *outFile, st *unix.Stat_t) error {
	lim := c.out.Limits
	switch {
	case kindOf(st) != unix.DT_REG:
		return changed(o.path)
	case st.Size > lim.MaxFileBytes:
		return &OutputError{Path: o.path, Reason: fmt.Sprintf("has %d bytes; at most %d are returned as one file", st.Size, lim.MaxFileBytes)}
	case c.total.Add(st.Size) > lim.MaxTotalBytes:
		return &OutputError{Path: o.path, Reason: fmt.Sprintf("is too much: all outputs together may have %d bytes", lim.MaxTotalBytes)}
	}
	return nil
}

// hashSmall reads a file as a whole and keeps it if there is room.
func (c *capture) hashSmall(o *outFile, f *os.File, size int64) error {
	data := make([]byte, size+1)
	n, err := io.ReadFull(f, data)
	if err != io.EOF && err != io.ErrUnexpectedEOF {
		if err == nil {
			return changed(o.path) // it grew
		}
		return fmt.Errorf("read output %s: %w", quote(o.path), err)
	}
	if int64(n) != size {
		return changed(o.path)
	}
	content := c.out.function.Content(data[:size])
	o.digest = content.Digest()
	if c.kept.Add(size) <= keepBytes {
		o.content = content
	}
	return nil
}

// contextReader ends a long read when its context does.
type contextReader struct {
	ctx context.Context //nolint:containedctx // lives for one call of hash
	r   io.Reader
}

func (r contextReader) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.r.Read(p)
}
