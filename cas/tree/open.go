package tree

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// How paths from outside are resolved below a directory.
const (
	// within follows symbolic links as long as they stay inside.
	within = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS
	// strict follows none.
	strict = within | unix.RESOLVE_NO_SYMLINKS
	// strictHere follows none and enters no other mount.
	strictHere = strict | unix.RESOLVE_NO_XDEV
)

// Flags of what is opened here: nothing is followed at the end of a path,
// nothing blocks, nothing becomes a controlling terminal.
const (
	openAny = unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC
	openDir = openAny | unix.O_DIRECTORY
)

// openBelow opens a path (relative, without "..") below the directory dirFD. A
// path that leads out gives EXDEV, with strict a symbolic link on it ELOOP or
// ENOTDIR. Where openat2 is missing or forbidden, all is resolved as by strict.
func openBelow(dirFD int, path string, flags int, resolve uint64) (int, error) {
	if path == "" {
		path = "."
	}
	if resolve == within {
		flags &^= unix.O_NOFOLLOW // the kernel keeps the last link inside, too
	}
	for range 100 {
		fd, err := unix.Openat2(dirFD, path, &unix.OpenHow{Flags: uint64(flags), Resolve: resolve})
		switch err {
		case unix.EINTR, unix.EAGAIN: // EAGAIN: a rename raced with the walk
			continue
		case unix.ENOSYS, unix.EPERM:
			return walkBelow(dirFD, path, flags, resolve)
		}
		return fd, err
	}
	return -1, unix.EAGAIN
}

// walkBelow is openBelow without openat2: one directory at a time, following
// nothing.
func walkBelow(dirFD int, path string, flags int, resolve uint64) (int, error) {
	dev, err := deviceOf(dirFD)
	if err != nil {
		return -1, err
	}
	at := dirFD
	names := strings.Split(path, "/")
	for i, name := range names {
		step := unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
		if i == len(names)-1 {
			step = flags | unix.O_NOFOLLOW
		}
		fd, err := -1, error(unix.EXDEV)
		if name != ".." {
			fd, err = openatRetry(at, name, step)
		}
		if at != dirFD {
			unix.Close(at)
		}
		if err != nil {
			return -1, err
		}
		at = fd
	}
	if resolve&unix.RESOLVE_NO_XDEV != 0 {
		if d, err := deviceOf(at); err != nil || d != dev {
			unix.Close(at)
			return -1, errors.Join(err, unix.EXDEV)
		}
	}
	return at, nil
}

func deviceOf(fd int) (uint64, error) {
	var st unix.Stat_t
	err := unix.Fstat(fd, &st)
	return st.Dev, err
}

func openatRetry(dirFD int, name string, flags int) (int, error) {
	for {
		fd, err := unix.Openat(dirFD, name, flags, 0)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// placeOf is where a tree is or will be. The directory that it is in is the host's
// own, whose links are followed; that of the tree itself an action had in its
// hands: it may have become anything.
func placeOf(dir string) (string, error) {
	dir = filepath.Clean(dir)
	if nameProblem(filepath.Base(dir)) != "" {
		return "", fmt.Errorf("%s is no place for a tree", dir)
	}
	return dir, nil
}

// openRoot opens the directory of a tree, and follows no link that is in its place.
func openRoot(dir string) (int, error) {
	dir, err := placeOf(dir)
	if err != nil {
		return -1, err
	}
	return openatRetry(unix.AT_FDCWD, dir, openDir)
}
