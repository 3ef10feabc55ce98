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
// once per blob: an inode has one mode.
func (s *Store) Link(ctx context.Context, d cas.Digest, dirFD int, name string, executable bool) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if d.IsEmptyBlob() {
		return fmt.Errorf("%w: making an empty file costs less", cas.ErrCannotLink)
	}
	return s.withFile(ctx, d, func(b blobFile) error {
		path, mode := b.path, uint32(blobMode)
		if executable {
			path, mode = b.path+execSuffix, execMode
			if err := s.disk.makeExecutable(ctx, b); err != nil {
				return err
			}
		}
		if err := b.check(path, mode); err != nil {
			return err
		}
		return linkError(unix.Linkat(unix.AT_FDCWD, path, dirFD, name, 0), path, name)
	})
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

// makeExecutable makes sure that a blob has its executable copy.
func (d *Disk) makeExecutable(ctx context.Context, b blobFile) error {
	for !d.index.isExecutable(b.entry) {
		now, f, own := d.index.claimExisting(b.entry.key)
		if own {
			return d.copyExecutable(ctx, b, f)
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

func (d *Disk) copyExecutable(ctx context.Context, b blobFile, f *flight) error {
	defer d.index.finish(b.entry.key, f)
	if d.index.isExecutable(b.entry) {
		return nil
	}
	room, err := d.reserve(b.digest.Size())
	if err != nil {
		return err
	}
	defer room.release()
	t, err := d.files.create(execMode)
	if err != nil {
		return spaceError(err)
	}
	defer t.discard()
	if err := t.cloneOf(ctx, b); err != nil {
		return spaceError(err)
	}
	if err := d.enter(); err != nil {
		return err
	}
	defer d.life.RUnlock()
	if err := t.publish(b.path + execSuffix); err != nil {
		return spaceError(err)
	}
	d.dirty.Store(true)
	if !d.index.addExecutable(b.entry) { // the blob went away meanwhile
		d.warnIf("remove an executable copy", removeFile(b.path+execSuffix))
		return errDoubtful
	}
	room.spend()
	return nil
}

// cloneOf makes the file a copy of a blob's file, with its time, by sharing the
// blocks where the file system can.
func (t *file) cloneOf(ctx context.Context, b blobFile) error {
	from, err := b.open(0)
	if err != nil {
		return err
	}
	defer from.Close() // nothing was written
	if unix.IoctlFileClone(t.fd, int(from.f.Fd())) != nil {
		stop := func() error { return context.Cause(ctx) }
		_, err := io.CopyBuffer(t, untilStopped{from, stop}, make([]byte, copyBuffer))
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return errDoubtful
		}
		if err != nil {
			return err
		}
	}
	// The time of the blob's own file: later changes show in both alike.
	times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, from.modified}
	if err := unix.UtimesNanoAt(t.fd, "", times, unix.AT_EMPTY_PATH); err != nil {
		return &os.PathError{Op: "set the times of", Path: "a new blob", Err: err}
	}
	return nil
}
