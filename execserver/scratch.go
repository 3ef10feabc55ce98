package execserver

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// scratch is a directory that is emptied after each command, when no other
// process is left: nothing changes under the hands of the code below.
type scratch struct {
	path     string
	mode     uint32
	uid, gid int
	// given are the names that were there at first: mount points may be among them.
	given []string
}

// newScratch makes the directory if it is missing and remembers how it is.
func newScratch(path string) (scratch, error) {
	const shared = 0o1777 // sticky and open to all, as temporary directories are
	switch err := unix.Mkdir(path, shared); {
	case err == nil:
		if err := unix.Chmod(path, shared); err != nil {
			return scratch{}, fmt.Errorf("scratch directory %s: %w", path, err)
		}
	case !errors.Is(err, unix.EEXIST) && !errors.Is(err, unix.EROFS):
		return scratch{}, fmt.Errorf("scratch directory %s: %w", path, err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return scratch{}, fmt.Errorf("scratch directory %s: %w", path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return scratch{}, fmt.Errorf("scratch directory %s is no directory", path)
	}
	s := scratch{path: path, mode: st.Mode & 0o7777, uid: int(st.Uid), gid: int(st.Gid)}
	entries, err := os.ReadDir(path)
	if err != nil {
		return scratch{}, fmt.Errorf("scratch directory %s: %w", path, err)
	}
	for _, e := range entries {
		s.given = append(s.given, e.Name())
	}
	return s, nil
}

// empty gives the directory back its mode and owner, without which there may be
// no way to what is in it, and removes all that. Symbolic links are removed, never
// followed.
func (s scratch) empty() (err error) {
	fd, err := unix.Open(s.path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("empty %s: %w", s.path, err)
	}
	defer func() { err = errors.Join(err, unix.Close(fd)) }()
	if err := s.restore(fd); err != nil {
		return err
	}
	e := emptier{top: fd, given: s.given}
	if err := e.empty(fd, 0); err != nil {
		return fmt.Errorf("empty %s: %w", s.path, err)
	}
	return nil
}

// restore gives the directory back its mode and owner.
func (s scratch) restore(fd int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("empty %s: %w", s.path, err)
	}
	if int(st.Uid) != s.uid || int(st.Gid) != s.gid {
		if err := unix.Fchown(fd, s.uid, s.gid); err != nil {
			return fmt.Errorf("give %s back its owner: %w", s.path, err)
		}
	}
	if st.Mode&0o7777 != s.mode {
		if err := unix.Fchmod(fd, s.mode); err != nil {
			return fmt.Errorf("give %s back its mode: %w", s.path, err)
		}
	}
	return nil
}

// emptier removes trees, however deep they are, with few open directories.
type emptier struct {
	top   int // the directory to empty
	moved int // deep trees moved up to it
	given []string
}

// maxDepth of the recursion; a tree that is deeper is cut and moved to the top.
const maxDepth = 128

// empty removes the entries of a directory. Only a pass that finds none proves
// that it is empty: trees are moved up to the top during the pass before.
func (e *emptier) empty(dir, depth int) error {
	for {
		count, err := e.pass(dir, depth)
		if err != nil || count == 0 {
			return err
		}
		if _, err := unix.Seek(dir, 0, 0); err != nil {
			return fmt.Errorf("rewind a directory: %w", err)
		}
	}
}

// pass reads a directory once, removes what it finds and counts it.
func (e *emptier) pass(dir, depth int) (int, error) {
	var room [8 << 10]byte
	var names []string
	count := 0
	for {
		n, err := unix.ReadDirent(dir, room[:])
		if err != nil {
			return count, fmt.Errorf("read a directory: %w", err)
		}
		if n == 0 {
			return count, nil
		}
		_, _, names = unix.ParseDirent(room[:n], -1, names[:0])
		for _, name := range names {
			switch err := e.remove(dir, name, depth); {
			case depth == 0 && errors.Is(err, unix.EBUSY) && slices.Contains(e.given, name):
				// One of the container's own mounts.
			case err != nil:
				return count, fmt.Errorf("remove %q: %w", name, err)
			default:
				count++
			}
		}
	}
}

// remove removes one entry: a file, an empty directory, a tree.
func (e *emptier) remove(dir int, name string, depth int) error {
	err := unix.Unlinkat(dir, name, 0)
	if !errors.Is(err, unix.EISDIR) {
		return err
	}
	err = unix.Unlinkat(dir, name, unix.AT_REMOVEDIR)
	if !errors.Is(err, unix.ENOTEMPTY) {
		return err
	}
	if err := open(dir, name); err != nil {
		return err
	}
	if depth == maxDepth {
		return e.moveUp(dir, name)
	}
	child, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if err := errors.Join(e.empty(child, depth+1), unix.Close(child)); err != nil {
		return err
	}
	return unix.Unlinkat(dir, name, unix.AT_REMOVEDIR)
}

// open lets everybody do everything in a directory, so that it does not matter
// which capabilities the container left to the server.
func open(dir int, name string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if st.Mode&0o7777 == 0o777 {
		return nil
	}
	err := unix.Fchmodat(dir, name, 0o777, 0)
	if errors.Is(err, unix.EPERM) {
		err = asUser(st.Uid, st.Gid, func() error { return unix.Fchmodat(dir, name, 0o777, 0) })
	}
	return err
}

// moveUp moves a directory to the top, where a later pass finds it.
func (e *emptier) moveUp(dir int, name string) error {
	for {
		e.moved++
		err := unix.Renameat(dir, name, e.top, "hearth-"+strconv.Itoa(e.moved))
		switch {
		case errors.Is(err, unix.ENOTEMPTY), errors.Is(err, unix.EEXIST), errors.Is(err, unix.ENOTDIR):
			continue // somebody guessed the name
		default:
			return err
		}
	}
}
