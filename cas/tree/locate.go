package tree

import (
	"fmt"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// located is where the parent of an output really is.
type located struct {
	path   string // from the input root, without symbolic links
	absent bool
}

// lookAt finds out what is at the place of a declared output; ok is false if
// nothing is.
func (c *capture) lookAt(o output) (f found, ok bool, err error) {
	parent, err := c.locate(parentOf(o.place), o)
	if err != nil || parent.absent {
		return found{}, false, err
	}
	if o.place == "" {
		return c.identify(o, "", unix.DT_DIR)
	}
	actual := path.Join(parent.path, path.Base(o.place))
	var st unix.Stat_t
	switch err := c.lstat(actual, &st); err {
	case nil:
		return c.identify(o, actual, kindOf(&st))
	case unix.ENOENT:
		return found{}, false, nil
	case unix.ENAMETOOLONG:
		return found{}, false, tooLong(o.place)
	default:
		return found{}, false, fmt.Errorf("look at output %s: %w", quote(o.place), err)
	}
}

// locate resolves the parent of an output by links that stay inside the input
// root. A link that leads out is an error rather than an absent output: else
// nobody would understand why it is not there.
func (c *capture) locate(place string, o output) (located, error) {
	if l, ok := c.places[place]; ok {
		return l, nil
	}
	l := located{path: place}
	fd, err := c.open(place, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, strict)
	if err == unix.ELOOP || err == unix.ENOTDIR {
		fd, err = c.open(place, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, within)
		if err == nil {
			l.path, err = c.realPath(fd)
		}
	}
	if fd >= 0 {
		unix.Close(fd)
	}
	switch err {
	case nil:
	case unix.ENOENT, unix.ENOTDIR:
		l.absent = true
	case unix.EXDEV, unix.ELOOP:
		return l, &OutputError{Path: o.place, Reason: "is behind a symbolic link that leads out of the input root"}
	case unix.ENAMETOOLONG:
		return l, tooLong(o.place)
	default:
		return l, fmt.Errorf("open the parent of output %s: %w", quote(o.place), err)
	}
	c.places[place] = l
	return l, nil
}

// realPath returns the path of an open directory from the input root.
func (c *capture) realPath(fd int) (string, error) {
	root, err := readLink(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(c.root))
	if err != nil {
		return "", fmt.Errorf("find the path of the input root: %w", err)
	}
	p, err := readLink(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(fd))
	if err != nil {
		return "", fmt.Errorf("find the path of an output: %w", err)
	}
	if p == root {
		return "", nil
	}
	below, ok := strings.CutPrefix(p, strings.TrimSuffix(root, "/")+"/")
	if !ok {
		return "", unix.EXDEV
	}
	return below, nil
}

// identify sorts an output by what it is and how it was declared. A symbolic
// link is never followed, but in the legacy lists it may not lead to the wrong
// kind, as far as that can be known: what it names outside is the container's.
func (c *capture) identify(o output, actual string, kind uint8) (f found, ok bool, err error) {
	f = found{output: o}
	mismatch := func(is Kind) (found, bool, error) {
		return found{}, false, &OutputError{Path: o.place, Reason: fmt.Sprintf("is declared as a %s, but is a %s", o.want, is)}
	}
	switch kind {
	case unix.DT_REG:
		if o.want == wantDirectory {
			return mismatch(KindFile)
		}
		f.file, err = c.addFile(path.Base(actual), actual)
	case unix.DT_DIR:
		if o.want == wantFile {
			return mismatch(KindDirectory)
		}
		f.dir, err = c.addDir(path.Base(actual), actual)
	case unix.DT_LNK:
		if leads, known := c.leadsTo(actual); known && o.want != wantAny && (leads == KindDirectory) != (o.want == wantDirectory) {
			return found{}, false, &OutputError{Path: o.place, Reason: fmt.Sprintf("is declared as a %s, but is a symbolic link to a %s", o.want, leads)}
		}
		if err := c.count(actual); err != nil {
			return found{}, false, err
		}
		f.link, err = c.readOutLink(path.Base(actual), actual)
	default:
		err = special(actual)
	}
	return f, err == nil, err
}

// leadsTo says what a symbolic link leads to, if that is in the input root.
func (c *capture) leadsTo(actual string) (kind Kind, known bool) {
	fd, err := c.open(actual, unix.O_PATH|unix.O_CLOEXEC, within)
	if err != nil {
		return 0, false
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil {
		return 0, false
	}
	switch kindOf(&st) {
	case unix.DT_DIR:
		return KindDirectory, true
	case unix.DT_REG:
		return KindFile, true
	}
	return 0, false
}

// String names what was declared for messages.
func (w wanted) String() string {
	if w == wantDirectory {
		return "directory"
	}
	return "file"
}

func special(p string) error {
	return &OutputError{Path: p, Reason: "is a fifo, socket or device; only files, directories and symbolic links can be returned"}
}

func tooLong(p string) error {
	return &OutputError{Path: p, Reason: fmt.Sprintf("has a path of more than %d bytes", maxPath)}
}
