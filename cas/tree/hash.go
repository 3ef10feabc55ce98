package tree

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"

	"golang.org/x/sys/unix"

	"github.com/hearth-build/hearth/cas"
)

// keepBytes bounds the small files that one Capture holds in memory, so that
// they are read and hashed once.
const keepBytes = 16 << 20

// hash finds the digest of the i-th file.
func (c *capture) hash(ctx context.Context, i int) error {
	o := c.files[i]
	f, st, err := c.openFile(o)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := c.checkSize(o, st.Size); err != nil {
		return err
	}
	o.meta = c.metaOf(o.path, &st)
	size := st.Size
	if size <= smallFile {
		return c.hashSmall(o, f, size)
	}
	buf, ok := c.buffers.Get().(*[]byte)
	if !ok {
		b := make([]byte, copyBuffer)
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

// openFile opens an output that must still be a regular file.
func (c *capture) openFile(o *outFile) (file, unix.Stat_t, error) {
	var st unix.Stat_t
	fd, err := c.openOutput(o.path, openAny)
	if err != nil {
		return -1, st, err
	}
	err = unix.Fstat(fd, &st)
	switch {
	case err != nil:
		err = fmt.Errorf("look at output %s: %w", quote(o.path), err)
	case kindOf(&st) != unix.DT_REG:
		err = changed(o.path)
	default:
		return file(fd), st, nil
	}
	unix.Close(fd)
	return -1, st, err
}

// checkSize holds a file against the limits by the size it claims: a sparse
// file is as large as that to everyone who fetches it.
func (c *capture) checkSize(o *outFile, size int64) error {
	lim := c.out.Limits
	if size > lim.MaxFileBytes {
		return &OutputError{Path: o.path, Reason: fmt.Sprintf("has %d bytes; at most %d are returned as one file", size, lim.MaxFileBytes)}
	}
	if c.total.Add(size) > lim.MaxTotalBytes {
		return &OutputError{Path: o.path, Reason: fmt.Sprintf("is too much: all outputs together may have %d bytes", lim.MaxTotalBytes)}
	}
	return nil
}

// file is an open regular file. Reading it never waits, so it needs nothing of
// what an os.File does for every file that is opened.
type file int

// Read implements io.Reader.
func (f file) Read(p []byte) (int, error) {
	for {
		n, err := unix.Read(int(f), p)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return 0, err
		case n == 0 && len(p) > 0:
			return 0, io.EOF
		}
		return n, nil
	}
}

// Close implements io.Closer.
func (f file) Close() error { return unix.Close(int(f)) }

// hashSmall reads a file as a whole and keeps it if there is room.
func (c *capture) hashSmall(o *outFile, f io.Reader, size int64) error {
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
