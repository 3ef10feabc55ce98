package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// files makes the files of a store: each is written where nobody sees it, and
// put in place whole.
type files struct {
	tmp string
	// anonymous: files have no name until they are in place (O_TMPFILE), so a
	// crash leaves nothing. Measured on ext4 it is also quicker than a rename.
	anonymous bool
	// chmod: the process's umask takes bits away that a blob needs.
	chmod bool
	names atomic.Uint64

	faults faults
}

// newFiles finds out what the file system and the process can do.
func newFiles(tmp string, faults faults) (*files, error) {
	f := &files{tmp: tmp, anonymous: true, faults: faults}
	probe := filepath.Join(tmp, "probe")
	err := f.probe(probe)
	if err != nil {
		f.anonymous = false
		err = f.probe(probe)
	}
	if err != nil {
		return nil, fmt.Errorf("the store cannot write to %s: %w", tmp, spaceError(err))
	}
	return f, nil
}

func (f *files) probe(path string) error {
	t, err := f.create(execMode)
	if err != nil {
		return err
	}
	defer t.discard()
	if err := t.publish(path); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return err
	}
	f.chmod = st.Mode&0o777 != execMode
	return removeFile(path)
}

// file is being written. It ends with discard, after publish or without.
type file struct {
	fd   int    // -1 once closed
	name string // "" while it has none

	faults faults
}

func (f *files) create(mode uint32) (*file, error) {
	if err := f.faults.at(opCreate); err != nil {
		return nil, err
	}
	t := &file{faults: f.faults}
	path, flags := f.tmp, unix.O_WRONLY|unix.O_CLOEXEC
	if f.anonymous {
		flags |= unix.O_TMPFILE
	} else {
		t.name = filepath.Join(f.tmp, strconv.FormatUint(f.names.Add(1), 36))
		path = t.name
		flags |= unix.O_CREAT | unix.O_EXCL
	}
	err := ignoringEINTR(func() (err error) {
		t.fd, err = unix.Open(path, flags, mode)
		return err
	})
	if err != nil {
		return nil, &fs.PathError{Op: "create a file in", Path: f.tmp, Err: err}
	}
	if f.chmod {
		if err := unix.Fchmod(t.fd, mode); err != nil {
			t.discard()
			return nil, err
		}
	}
	return t, nil
}

// Write implements io.Writer.
func (t *file) Write(p []byte) (int, error) {
	written := 0
	if err := t.faults.at(opWrite); err != nil {
		return 0, err
	}
	for written < len(p) {
		n, err := unix.Write(t.fd, p[written:])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return written, &fs.PathError{Op: "write", Path: "a new blob", Err: err}
		}
		written += n
	}
	return written, nil
}

// modified returns when the file was last written to.
func (t *file) modified() (int64, error) {
	var st unix.Stat_t
	if err := unix.Fstat(t.fd, &st); err != nil {
		return 0, &fs.PathError{Op: "stat", Path: "a new blob", Err: err}
	}
	return mtime(&st), nil
}

// publish gives the file its place, in a directory that may have to be made.
func (t *file) publish(path string) error {
	err := t.place(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(filepath.Dir(path), dirMode); err != nil {
			return err
		}
		err = t.place(path)
	}
	if errors.Is(err, fs.ErrExist) {
		// The index does not have it, so it is nobody's.
		if err := removeFile(path); err != nil {
			return err
		}
		err = t.place(path)
	}
	if err != nil {
		return err
	}
	return t.close()
}

func (t *file) place(path string) error {
	if err := t.faults.at(opPlace); err != nil {
		return err
	}
	if t.name != "" {
		if err := unix.Rename(t.name, path); err != nil {
			return &os.LinkError{Op: "rename", Old: t.name, New: path, Err: err}
		}
		t.name = ""
		return nil
	}
	self := "/proc/self/fd/" + strconv.Itoa(t.fd)
	if err := unix.Linkat(unix.AT_FDCWD, self, unix.AT_FDCWD, path, unix.AT_SYMLINK_FOLLOW); err != nil {
		return &os.LinkError{Op: "link", Old: self, New: path, Err: err}
	}
	return nil
}

func (t *file) close() error {
	if t.fd < 0 {
		return nil
	}
	fd := t.fd
	t.fd = -1
	// EINTR from close means that it is closed.
	if err := unix.Close(fd); err != nil && err != unix.EINTR {
		return &fs.PathError{Op: "close", Path: "a new blob", Err: err}
	}
	return nil
}

// discard closes the file, and removes it if it was not published.
func (t *file) discard() {
	_ = t.close() // nobody will read it
	if t.name != "" {
		_ = removeFile(t.name) // what stays is removed at the next start
	}
}

// removeFile deletes a file that may be gone already.
func removeFile(path string) error {
	err := ignoringEINTR(func() error { return unix.Unlink(path) })
	if err != nil && err != unix.ENOENT {
		return &fs.PathError{Op: "unlink", Path: path, Err: err}
	}
	return nil
}
