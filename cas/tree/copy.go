package tree

import (
	"context"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"

	"github.com/hearth-build/hearth/cas"
)

const (
	// copyBuffer is how much of a file is read at a time.
	copyBuffer = 256 << 10
	// smallFile is up to where a file is handled as a whole, in memory: that is
	// faster than to ask the kernel for a clone, or to hash it twice.
	smallFile = 64 << 10
	// cloneName is a name for one moment in a directory that is being filled.
	cloneName = ".hearth-clone"
)

// write makes a file with the content of a blob.
func (s *staging) write(ctx context.Context, dirFD int, e fileEntry) (err error) {
	const flags = unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_CLOEXEC
	a := e.attributes(s.owners)
	fd, err := unix.Openat(dirFD, e.name, flags, a.mode)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unix.Close(fd)) }()
	if err := s.content(ctx, dirFD, fd, e.digest); err != nil {
		return err
	}
	if err := own(fd, a.uid, a.gid, a.mode); err != nil {
		return err
	}
	return unix.UtimesNanoAt(dirFD, e.name, []unix.Timespec{a.mtime, a.mtime}, unix.AT_SYMLINK_NOFOLLOW)
}

func (s *staging) content(ctx context.Context, dirFD, fd int, d cas.Digest) error {
	if d.IsEmptyBlob() {
		return nil
	}
	if done, err := s.clone(ctx, dirFD, fd, d); done || err != nil {
		return err
	}
	return s.copy(ctx, fd, d)
}

// clone makes a large file share its blocks with the store's, where the file
// system can do that. A link brings the two together for a moment. If anything
// is in the way, it is not done: copying will do, or will say why not.
func (s *staging) clone(ctx context.Context, dirFD, fd int, d cas.Digest) (done bool, err error) {
	c := s.copier
	if c.linker == nil || d.Size() <= smallFile || c.cannotClone.Load() {
		return false, nil
	}
	if c.linker.Link(ctx, d, dirFD, cloneName, false) != nil {
		return false, nil
	}
	from, err := openatRetry(dirFD, cloneName, openAny)
	if err == nil {
		defer unix.Close(from)
	}
	if err := unix.Unlinkat(dirFD, cloneName, 0); err != nil {
		return false, fmt.Errorf("remove %s: %w", cloneName, err)
	}
	if err != nil || unix.IoctlFileClone(fd, from) != nil {
		c.cannotClone.Store(true) // not worth a try for each file
		return false, nil
	}
	return true, nil
}

// copy writes exactly the blob.
func (s *staging) copy(ctx context.Context, fd int, d cas.Digest) error {
	r, err := s.copier.store.Get(ctx, d, 0)
	if err != nil {
		return err
	}
	defer r.Close()
	buf, ok := s.buffers.Get().(*[]byte)
	if !ok {
		b := make([]byte, copyBuffer)
		buf = &b
	}
	defer s.buffers.Put(buf)
	for left := d.Size(); left > 0; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		data := (*buf)[:min(left, copyBuffer)]
		if _, err := io.ReadFull(r, data); err != nil {
			return fmt.Errorf("read blob %v: %w", d, err)
		}
		if err := writeAll(fd, data); err != nil {
			return err
		}
		left -= int64(len(data))
	}
	return nil
}

func writeAll(fd int, data []byte) error {
	for len(data) > 0 {
		n, err := unix.Write(fd, data)
		if err != nil && err != unix.EINTR {
			return err
		}
		data = data[max(n, 0):]
	}
	return nil
}
