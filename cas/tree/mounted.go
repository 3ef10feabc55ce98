package tree

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// mounted is an input root that a Mounter made.
type mounted struct {
	mounter *Mounter
	graph   *Graph
	image   *image
	dir     string
	upper   string // holds the upper layer and what overlayfs needs beside it
}

var _ Staged = (*mounted)(nil)

func (s *mounted) changes() string { return filepath.Join(s.upper, "changes") }
func (s *mounted) scratch() string { return filepath.Join(s.upper, "work") }

// mount makes the overlay appear at the place.
func (s *mounted) mount(opts StageOptions) error {
	for _, d := range []string{s.upper, s.changes(), s.scratch()} {
		if err := os.Mkdir(d, 0o700); err != nil {
			return spaceError(err)
		}
	}
	// The input root itself looks like the directory of the upper layer.
	if err := errors.Join(os.Chown(s.changes(), opts.UID, opts.GID), os.Chmod(s.changes(), 0o755)); err != nil {
		return err
	}
	root, err := makeRoot(s.dir)
	if err != nil {
		return err
	}
	defer unix.Close(root)
	err = mountAt(root, "overlay", overlayOptions(overlay{
		lower: s.image.mount(), blobs: s.mounter.shelf.blobsDir, changes: s.changes(), scratch: s.scratch(),
	}))
	if err != nil {
		return errors.Join(err, os.Remove(s.dir))
	}
	return nil
}

// Remove implements Staged. The kernel tidies up after a mount when it goes away
// for good, which takes milliseconds if many of its files were used: that is
// left to the background, for which an open file keeps it alive. Whatever else
// still uses it keeps it too, and sees nothing of what comes after. The directory
// stays for the next: to remove it takes longer than to unmount.
func (s *mounted) Remove() error {
	last, err := unix.Open(s.dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open input root %s: %w", s.dir, err)
	}
	if err := unix.Unmount(s.dir, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
		return errors.Join(fmt.Errorf("unmount input root %s: %w", s.dir, err), unix.Close(last))
	}
	rest := rubbish{dir: filepath.Dir(s.upper), name: filepath.Base(s.upper)}
	err = s.mounter.copier.trash.later(chore{s.upper, func() error { return errors.Join(unix.Close(last), rest.delete()) }})
	return errors.Join(err, s.mounter.images.put(s.image))
}
