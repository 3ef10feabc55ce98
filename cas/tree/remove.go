package tree

import (
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"
)

// removeDepth is how deep one descent goes: deeper directories are moved to the
// top and get a descent of their own, so that neither file descriptors nor
// stack depend on what an action made.
const removeDepth = 48

// remover deletes trees in one directory.
type remover struct {
	top    int // the directory
	name   string
	moved  int
	queue  []string // in top
	failed []error  // the first ones
	fails  int
}

// removeAll deletes name in the directory top: any kind of file, any mode, with
// immutable and append-only flags, of any depth. It follows no link and enters
// no mount. What cannot be deleted stays, the rest is deleted all the same.
func removeAll(top int, name string) error {
	r := &remover{top: top, name: name, queue: []string{name}}
	for len(r.queue) > 0 {
		next := r.queue[0]
		r.queue = r.queue[1:]
		r.entry(top, dirent{name: next, kind: unix.DT_UNKNOWN}, 0)
	}
	return errors.Join(r.failed...)
}

func (r *remover) fail(name string, err error) {
	const most = 8
	r.fails++
	if len(r.failed) < most {
		r.failed = append(r.failed, fmt.Errorf("%s: %w", quote(name), err))
	}
}

// entry deletes one entry of the directory parent.
func (r *remover) entry(parent int, e dirent, depth int) {
	err := error(unix.EISDIR)
	if e.kind != unix.DT_DIR {
		err = r.unlink(parent, e.name, 0)
	}
	switch {
	case err == nil:
	case err == unix.EISDIR:
		r.dir(parent, e.name, depth)
	case err == unix.EBUSY:
		r.fail(e.name, fmt.Errorf("is a mount point; unmount it: %w", err))
	default:
		r.fail(e.name, err)
	}
}

func (r *remover) dir(parent int, name string, depth int) {
	if depth >= removeDepth && r.toTop(parent, name) {
		return
	}
	fd, err := openBelow(parent, name, openDir, strictHere)
	if err == unix.EACCES {
		unlock(parent, name)
		fd, err = openBelow(parent, name, openDir, strictHere)
	}
	switch err {
	case nil:
	case unix.ENOENT:
		return
	case unix.EXDEV:
		r.fail(name, fmt.Errorf("is a mount point; unmount it: %w", err))
		return
	default:
		r.fail(name, err)
		return
	}
	fails := r.fails
	err = r.contents(fd, depth)
	unix.Close(fd)
	if err == nil && r.fails == fails {
		err = r.unlink(parent, name, unix.AT_REMOVEDIR)
	}
	if err != nil {
		r.fail(name, err)
	}
}

// contents deletes all entries of a directory. Deleting while reading may make
// a file system skip some, so it reads again until it finds none.
func (r *remover) contents(fd, depth int) error {
	for {
		found, fails := 0, r.fails
		err := readDir(fd, func(e dirent) error {
			found++
			r.entry(fd, e, depth+1)
			return nil
		})
		if err == unix.ENOENT { // somebody else deleted the directory meanwhile
			return nil
		}
		if err != nil || found == 0 || r.fails > fails {
			return err
		}
		if _, err := unix.Seek(fd, 0, unix.SEEK_SET); err != nil {
			return err
		}
	}
}

// toTop moves a directory to the top, to be deleted from there. If that cannot
// be, the descent goes on.
func (r *remover) toTop(parent int, name string) bool {
	for range 100 {
		r.moved++
		as := r.name + "." + strconv.Itoa(r.moved)
		err := unix.Renameat2(parent, name, r.top, as, unix.RENAME_NOREPLACE)
		if err == unix.EPERM || err == unix.EACCES {
			unlockDir(parent)
			unlock(parent, name)
			err = unix.Renameat2(parent, name, r.top, as, unix.RENAME_NOREPLACE)
		}
		if err == nil {
			r.queue = append(r.queue, as)
			return true
		}
		if err != unix.EEXIST {
			return false
		}
	}
	return false
}

// unlink deletes a name, after a second try with the obstacles removed. A name
// that is gone already is fine.
func (r *remover) unlink(parent int, name string, flags int) error {
	err := unix.Unlinkat(parent, name, flags)
	if err == unix.EPERM || err == unix.EACCES {
		if parent != r.top {
			unlockDir(parent)
		}
		unlock(parent, name)
		err = unix.Unlinkat(parent, name, flags)
	}
	if err == unix.ENOENT {
		return nil
	}
	return err
}

// unlock takes away what hinders the deletion of an entry: flags of its inode
// and, if it is a directory, a mode that keeps its owner out. The mode of files
// is left alone: it does not matter, and the inode may be the store's. It does
// what it can; the next try tells whether that was enough.
func unlock(parent int, name string) {
	var st unix.Stat_t
	if unix.Fstatat(parent, name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
		return
	}
	switch kindOf(&st) {
	case unix.DT_DIR:
		fd, err := openatRetry(parent, name, openDir)
		if err == unix.EACCES {
			if _, err := chmodBelow(parent, name, 0o700); err != nil {
				return
			}
			fd, err = openatRetry(parent, name, openDir)
		}
		if err == nil {
			unlockDir(fd)
			unix.Close(fd)
		}
	case unix.DT_REG:
		fd, err := openatRetry(parent, name, openAny)
		if err == nil {
			clearFlags(fd)
			unix.Close(fd)
		}
	}
}

func unlockDir(fd int) {
	clearFlags(fd)
	_ = unix.Fchmod(fd, 0o700) // see unlock
}

// clearFlags makes an inode neither immutable nor append-only. Not all file
// systems have such flags, which is as good.
func clearFlags(fd int) {
	const locks = unix.STATX_ATTR_IMMUTABLE | unix.STATX_ATTR_APPEND // FS_IMMUTABLE_FL, FS_APPEND_FL
	flags, err := unix.IoctlGetUint32(fd, unix.FS_IOC_GETFLAGS)
	if err == nil && flags&locks != 0 {
		_ = unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, int(flags&^locks)) // see unlock
	}
}

// chmodBelow adds bits to the mode of an entry that cannot be opened, without
// following a link: by the name that an O_PATH descriptor has in /proc. It
// returns the mode that was.
func chmodBelow(parent int, path string, bits uint32) (old uint32, err error) {
	fd, err := openBelow(parent, path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, strict)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return 0, err
	}
	if kindOf(&st) == unix.DT_LNK {
		return 0, unix.ELOOP
	}
	return st.Mode, unix.Chmod("/proc/self/fd/"+strconv.Itoa(fd), st.Mode&0o7777|bits)
}
