package runners

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// RemoveTree removes dir and all in it: of any depth, and never anything
// behind a link or a mount, where other people's files are. It is there for
// backends, too.
func RemoveTree(dir string) error {
	top, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove %s: %w", dir, err)
	}
	c := clearer{top: top}
	err = errors.Join(c.clear(top, 0), unix.Close(top))
	if err == nil {
		err = os.Remove(dir)
	}
	if err != nil {
		return fmt.Errorf("remove %s: %w", dir, err)
	}
	return nil
}

// clearer empties a directory.
type clearer struct {
	top   int
	moved int
}

// clearDepth is how many directories are open at a time; what is deeper is
// moved to the top first.
const clearDepth = 64

// clear passes over a directory until a pass finds nothing.
func (c *clearer) clear(dir, depth int) error {
	for {
		n, err := c.pass(dir, depth)
		if err != nil || n == 0 {
			return err
		}
		if _, err := unix.Seek(dir, 0, unix.SEEK_SET); err != nil {
			return fmt.Errorf("rewind: %w", err)
		}
	}
}

func (c *clearer) pass(dir, depth int) (found int, err error) {
	buf := make([]byte, 8<<10)
	var names []string
	for {
		n, err := unix.ReadDirent(dir, buf)
		if err != nil || n <= 0 {
			return found, err
		}
		_, _, names = unix.ParseDirent(buf[:n], -1, names[:0])
		for _, name := range names {
			found++
			if err := c.remove(dir, name, depth); err != nil {
				return found, fmt.Errorf("%q: %w", name, err)
			}
		}
	}
}

// moveUp moves a directory to the top, where the next pass finds it.
func (c *clearer) moveUp(dir int, name string) error {
	for {
		c.moved++
		err := unix.Renameat(dir, name, c.top, "hearth-deep-"+strconv.Itoa(c.moved))
		if !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, unix.ENOTDIR) {
			return err
		}
	}
}

func (c *clearer) remove(dir int, name string, depth int) error {
	err := unix.Unlinkat(dir, name, 0)
	if !errors.Is(err, unix.EISDIR) {
		return err
	}
	if err := unix.Unlinkat(dir, name, unix.AT_REMOVEDIR); !errors.Is(err, unix.ENOTEMPTY) {
		return err
	}
	if depth == clearDepth {
		return c.moveUp(dir, name)
	}
	child, err := unix.Openat2(dir, name, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_NO_XDEV,
	})
	if errors.Is(err, unix.EXDEV) {
		return fmt.Errorf("is a mount point; unmount it: %w", err)
	}
	if err != nil {
		return err
	}
	if err := errors.Join(c.clear(child, depth+1), unix.Close(child)); err != nil {
		return err
	}
	return unix.Unlinkat(dir, name, unix.AT_REMOVEDIR)
}
