package tree

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// scan lists a directory and adds what is in it to the capture. Everything is
// opened by its path from the input root and closed again, so that the number
// of open files does not depend on what an action made.
func (c *capture) scan(d *outDir) error {
	fd, err := c.openOutput(d.path, openDir)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("look at output directory %s: %w", quote(d.path), err)
	}
	d.meta = c.metaOf(d.path, &st)
	if err := readDir(fd, func(e dirent) error { return c.scanEntry(d, e) }); err != nil {
		return fmt.Errorf("read output directory %s: %w", quote(d.path), err)
	}
	slices.SortFunc(d.files, func(a, b *outFile) int { return strings.Compare(a.name, b.name) })
	slices.SortFunc(d.dirs, func(a, b *outDir) int { return strings.Compare(a.name, b.name) })
	slices.SortFunc(d.links, func(a, b *outLink) int { return strings.Compare(a.name, b.name) })
	return nil
}

func (c *capture) scanEntry(d *outDir, e dirent) error {
	p := path.Join(d.path, e.name)
	if !utf8.ValidString(e.name) {
		return &OutputError{Path: p, Reason: "has a name that is not valid UTF-8, which the API cannot express"}
	}
	kind := e.kind
	if kind == unix.DT_UNKNOWN {
		var st unix.Stat_t
		if err := c.lstat(p, &st); err != nil {
			return fmt.Errorf("look at output %s: %w", quote(p), err)
		}
		kind = kindOf(&st)
	}
	switch kind {
	case unix.DT_REG:
		f, err := c.addFile(e.name, p)
		d.files = append(d.files, f)
		return err
	case unix.DT_DIR:
		child, err := c.addDir(e.name, p)
		d.dirs = append(d.dirs, child)
		return err
	case unix.DT_LNK:
		l, err := c.readOutLink(e.name, p)
		if err != nil {
			return err
		}
		d.links = append(d.links, l)
		return c.count(p)
	}
	return special(p)
}

// readOutLink reads a symbolic link. Its target is returned byte by byte.
func (c *capture) readOutLink(name, p string) (*outLink, error) {
	l := &outLink{name: name}
	fd, err := c.open(p, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, strict)
	if err != nil {
		return nil, fmt.Errorf("open output symlink %s: %w", quote(p), err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, fmt.Errorf("look at output symlink %s: %w", quote(p), err)
	}
	l.meta = c.metaOf(p, &st)
	if l.target, err = readLink(fd, ""); err != nil {
		return nil, fmt.Errorf("read output symlink %s: %w", quote(p), err)
	}
	switch {
	case !utf8.ValidString(l.target):
		return nil, &OutputError{Path: p, Reason: "is a symbolic link whose target is not valid UTF-8, which the API cannot express"}
	case c.out.NoAbsoluteSymlinks && strings.HasPrefix(l.target, "/"):
		return nil, &OutputError{Path: p, Reason: "is a symbolic link with the absolute target " + quote(l.target) + ", which is disallowed here"}
	}
	return l, nil
}

func (c *capture) lstat(p string, st *unix.Stat_t) error {
	fd, err := c.open(p, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, strict)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Fstat(fd, st)
}

// openOutput opens something that was there a moment ago.
func (c *capture) openOutput(p string, flags int) (int, error) {
	fd, err := c.open(p, flags, strict)
	switch err {
	case nil:
		return fd, nil
	case unix.ENAMETOOLONG:
		return -1, tooLong(p)
	case unix.ENOENT, unix.ELOOP, unix.ENOTDIR:
		return -1, changed(p)
	case unix.ENXIO:
		return -1, special(p)
	}
	return -1, fmt.Errorf("open output %s: %w", quote(p), err)
}

// open opens a path below the input root, past modes that keep us out.
func (c *capture) open(p string, flags int, resolve uint64) (int, error) {
	fd, err := openBelow(c.root, p, flags, resolve)
	if err == unix.EACCES {
		c.makeReadable(p)
		return openBelow(c.root, p, flags, resolve)
	}
	return fd, err
}

// makeReadable lets us in on all of a path, as far as we own it; root never
// needs it. The modes that were there are remembered for the result.
func (c *capture) makeReadable(p string) {
	for i := range len(p) + 1 {
		if i == len(p) || p[i] == '/' {
			if old, err := chmodBelow(c.root, p[:i], 0o500); err == nil {
				c.modes.LoadOrStore(p[:i], old)
			}
		}
	}
}

func (c *capture) metaOf(p string, st *unix.Stat_t) meta {
	if old, ok := c.modes.Load(p); ok {
		return meta{mode: old.(uint32), mtime: st.Mtim}
	}
	return meta{mode: st.Mode, mtime: st.Mtim}
}

func changed(p string) error {
	return &OutputError{Path: p, Reason: "changed while it was being stored: a process of the action is still at work"}
}

func readLink(dirFD int, p string) (string, error) {
	buf := make([]byte, maxPath+1)
	n, err := unix.Readlinkat(dirFD, p, buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}
