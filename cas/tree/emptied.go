package tree

import (
	"errors"

	"golang.org/x/sys/unix"
)

const (
	// emptiedEntries are moved to the trash one by one.
	emptiedEntries = 16
	// emptiedSize is that of a directory of ext4 which never had many entries: they grow,
	// and do not shrink.
	emptiedSize = 4 << 10
	// emptiedFlags are those that ext4 gives to each directory: FS_EXTENT_FL.
	emptiedFlags = 0x80000
)

// errUsed: a directory has something that the next action must not find.
var errUsed = errors.New("the directory is not as good as new")

// empty moves all that is in dir to the trash and leaves dir to the next action, since it
// takes file systems far longer to make a directory and to delete it. Where more would be
// left of this action than owner, mode and times, dir goes as a whole.
func (t *trash) empty(dir string) error {
	dir, err := placeOf(dir)
	if err != nil {
		return err
	}
	fd, err := openRoot(dir)
	if err != nil {
		return t.discard(dir) // whatever an action has put there
	}
	defer unix.Close(fd)
	names, err := reusable(fd)
	if err != nil {
		return t.discard(dir) // which fails, too, if it is the host's fault
	}
	for _, name := range names {
		if err := t.discardAt(fd, name, trashBeside(dir)); err != nil {
			return errors.Join(err, t.discard(dir))
		}
	}
	return nil
}

// reusable lists what is in an open directory that is as good as new without it.
func reusable(fd int) (names []string, err error) {
	if err := checkUnmarked(fd); err != nil {
		return nil, err
	}
	err = readDir(fd, func(e dirent) error {
		if len(names) == emptiedEntries {
			return errUsed
		}
		names = append(names, e.name)
		return nil
	})
	return names, err
}

// checkUnmarked fails unless an open directory differs from a new one by its owner, mode
// and times at most.
func checkUnmarked(fd int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	// Access control lists are attributes. New files inherit them, and flags.
	attributes, err := unix.Flistxattr(fd, nil)
	if err != nil {
		return err
	}
	flags, err := unix.IoctlGetUint32(fd, unix.FS_IOC_GETFLAGS)
	if err != nil {
		return err
	}
	if st.Size > emptiedSize || attributes > 0 || flags&^emptiedFlags != 0 {
		return errUsed
	}
	return nil
}
