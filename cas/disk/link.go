package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/hearth-build/hearth/cas"
)

// Link implements cas.Linker. The executable form is a file of its own, made
// once per blob, since an inode has one mode; and so is any form of a blob that
// is on the key-value side.
func (s *Store) Link(ctx context.Context, d cas.Digest, dirFD int, name string, executable bool) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if d.IsEmptyBlob() {
		return fmt.Errorf("%w: making an empty file costs less", cas.ErrCannotLink)
	}
	return s.withBlob(ctx, d, func(b blob) error {
		path, mode, kind := b.path, uint32(blobMode), plainCopy
		if executable {
			path, mode, kind = b.path+execSuffix, execMode, executableCopy
		}
		if !executable && !b.entry.small {
			return b.link(path, mode, dirFD, name)
		}
		if err := s.disk.makeCopy(ctx, b, kind); err != nil {
			return err
		}
		err := b.link(path, mode, dirFD, name)
		if b.entry.small && errors.Is(err, errDoubtful) {
			// The copy was changed or is gone; the blob is as it was.
			if f := s.disk.claimCopies(b.entry); f != nil {
				s.disk.warnIf("remove a copy of a blob", s.disk.unlinkCopies(b.entry, s.disk.index.dropCopies(b.entry)))
				s.disk.index.finish(b.entry.key(), f)
			}
		}
		return err
	})
}

// link gives a file of the blob a second name.
func (b blob) link(path string, mode uint32, dirFD int, name string) error {
	if err := b.check(path, mode); err != nil {
		return err
	}
	return linkError(unix.Linkat(unix.AT_FDCWD, path, dirFD, name, 0), path, name)
}

// linkError sorts out what the kernel says about a link whose source is there.
func linkError(err error, path, name string) error {
	switch err {
	case nil:
		return nil
	case unix.EMLINK, unix.EXDEV, unix.EPERM, unix.EOPNOTSUPP:
		return fmt.Errorf("%w: %w", cas.ErrCannotLink, err)
	case unix.ENOENT:
		// The blob may just have been evicted; or it is the target that lacks
		// its directory, which must not be taken for an absent blob.
		var st unix.Stat_t
		if unix.Fstatat(unix.AT_FDCWD, path, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
			return errDoubtful
		}
		return fmt.Errorf("link a blob to %q: the directory does not exist", name)
	}
	return spaceError(&os.LinkError{Op: "link", Old: path, New: name, Err: err})
}

// makeCopy makes sure that a blob has its copy of a kind.
func (d *Disk) makeCopy(ctx context.Context, b blob, kind copyKinds) error {
	for !d.index.useCopy(b.entry, kind) {
		now, f, own := d.index.claimExisting(b.entry.key())
		if own {
			return d.writeCopy(ctx, b, kind, f)
		}
		if now != b.entry {
			return errDoubtful // it is looked up again
		}
		if _, err := f.wait(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (d *Disk) writeCopy(ctx context.Context, b blob, kind copyKinds, f *flight) error {
	defer d.index.finish(b.entry.key(), f)
	if d.index.useCopy(b.entry, kind) {
		return nil
	}
	path, mode := b.path, uint32(blobMode)
	if kind == executableCopy {
		path, mode = b.path+execSuffix, execMode
	}
	room, err := d.reserve(b.digest.Size())
	if err != nil {
		return err
	}
	defer room.release()
	t, err := d.files.create(mode)
	if err != nil {
		return spaceError(err)
	}
	defer t.discard()
	if err := d.fill(ctx, t, b); err != nil {
		return spaceError(err)
	}
	if err := d.enter(); err != nil {
		return err
	}
	defer d.life.RUnlock()
	if err := t.publish(path); err != nil {
		return spaceError(err)
	}
	d.dirty.Store(true)
	if !d.index.addCopy(b.entry, kind) { // the blob went away meanwhile
		d.warnIf("remove a copy of a blob", removeFile(path))
		return errDoubtful
	}
	room.spend()
	return nil
}

// fill makes a file a copy of a blob, with its time: later changes show in all
// alike.
func (d *Disk) fill(ctx context.Context, t *file, b blob) error {
	if !b.entry.small {
		return t.cloneOf(ctx, b)
	}
	data, err := d.readValue(b.found)
	if err == nil {
		_, err = t.Write(data)
	}
	if err != nil {
		return err
	}
	return t.setTime(unix.NsecToTimespec(b.written))
}

// cloneOf copies a blob's file by sharing the blocks where the file system can.
func (t *file) cloneOf(ctx context.Context, b blob) error {
	from, err := b.open(0)
	if err != nil {
		return err
	}
	defer from.Close() // nothing was written
	if unix.IoctlFileClone(t.fd, int(from.f.Fd())) != nil {
		stop := func(int) error { return context.Cause(ctx) }
		_, err := io.CopyBuffer(t, untilStopped{from, stop}, make([]byte, copyBuffer))
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return errDoubtful
		}
		if err != nil {
			return err
		}
	}
	return t.setTime(from.modified)
}

func (t *file) setTime(modified unix.Timespec) error {
	times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, modified}
	if err := unix.UtimesNanoAt(t.fd, "", times, unix.AT_EMPTY_PATH); err != nil {
		return &os.PathError{Op: "set the times of", Path: "a new blob", Err: err}
	}
	return nil
}
