package disk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/hearth-build/hearth/cas"
)

// wholeFile is the size below which a file is read at once.
const wholeFile = 32 << 10

// errDoubtful: a file is not what the index says, or may not be.
var errDoubtful = errors.New("the blob's file was changed or damaged")

// blob is one that the index says is in place.
type blob struct {
	found
	digest cas.Digest
	path   string // of its file, or of the copy if it is none
	faults faults
}

func (b blob) isLarge() bool { return !b.entry.small && b.digest.Size() >= wholeFile }

// readAll returns the bytes of a small blob, or of a small file.
func (d *Disk) readAll(b blob) ([]byte, error) {
	if b.entry.small {
		return d.readValue(b.found)
	}
	return b.readFile()
}

// damaged reports whether an error is the fault of the file that was opened,
// looked at or read. What is not, like too many open files, says nothing about
// the blob.
func damaged(err error) bool {
	for _, fault := range []unix.Errno{unix.ENOENT, unix.EIO, unix.EUCLEAN, unix.EBADMSG, unix.ELOOP} {
		if errors.Is(err, fault) {
			return true
		}
	}
	return false
}

// doubtful makes an error that is a file's fault errDoubtful.
func doubtful(err error) error {
	if damaged(err) {
		return fmt.Errorf("%w: %w", errDoubtful, err)
	}
	return err
}

// ours reports whether a file is as the store left it: a regular file of the
// blob's size and of the mode, not written to since. Anything else is looked
// into by hash (verify). Kernels since 6.13 see to it that a change after the
// store's own stat has another time, however soon it comes; older ones do so
// after a clock tick.
func ours(st *unix.Stat_t, size, written int64, mode uint32) bool {
	return st.Mode == unix.S_IFREG|mode && st.Size == size && mtime(st) == written
}

func mtime(st *unix.Stat_t) int64 { return st.Mtim.Nano() }

func openFile(path string, flags int) (fd int, err error) {
	err = ignoringEINTR(func() (err error) {
		fd, err = unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_NONBLOCK|flags, 0)
		return err
	})
	if err != nil {
		return -1, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return fd, nil
}

// readFile reads a whole small file and checks its hash, which costs less than
// opening the file does.
func (b blob) readFile() ([]byte, error) {
	fd, err := b.openFile()
	if err != nil {
		return nil, doubtful(err)
	}
	defer unix.Close(fd)                   // nothing was written
	buf := make([]byte, b.digest.Size()+1) // a file that is too long shows
	n := 0
	for n < len(buf) {
		err := b.faults.at(opRead)
		m := 0
		if err == nil {
			m, err = unix.Read(fd, buf[n:])
		}
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, doubtful(&fs.PathError{Op: "read", Path: b.path, Err: err})
		}
		if m == 0 {
			break
		}
		n += m
	}
	if b.digest.Function().Sum(buf[:n]) != b.digest {
		return nil, errDoubtful
	}
	return buf[:n], nil
}

// open opens a blob at an offset.
func (b blob) open(offset int64) (*reader, error) {
	fd, err := b.openFile()
	if err != nil {
		return nil, doubtful(err)
	}
	f := os.NewFile(uintptr(fd), b.path)
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	if err == nil && !ours(&st, b.digest.Size(), b.written, blobMode) {
		err = errDoubtful
	}
	if err == nil && offset > 0 {
		_, err = f.Seek(offset, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(doubtful(err), f.Close())
	}
	return &reader{f: f, digest: b.digest, left: b.digest.Size() - offset, modified: st.Mtim, faults: b.faults}, nil
}

func (b blob) openFile() (int, error) {
	if err := b.faults.at(opOpen); err != nil {
		return -1, &fs.PathError{Op: "open", Path: b.path, Err: err}
	}
	return openFile(b.path, 0)
}

// check looks at the file under a path of the blob without opening it.
func (b blob) check(path string, mode uint32) error {
	var st unix.Stat_t
	if err := unix.Fstatat(unix.AT_FDCWD, path, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return doubtful(&fs.PathError{Op: "stat", Path: path, Err: err})
	}
	if !ours(&st, b.digest.Size(), b.written, mode) {
		return errDoubtful
	}
	return nil
}

// reader reads the rest of a blob, all of it or with an error.
type reader struct {
	f        *os.File
	digest   cas.Digest
	left     int64
	modified unix.Timespec // when it was opened
	faults   faults
}

// Read implements io.Reader.
func (r *reader) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	if err := r.faults.at(opRead); err != nil {
		return 0, err
	}
	p = p[:min(int64(len(p)), r.left)]
	n, err := r.f.Read(p)
	r.left -= int64(n)
	if err == io.EOF {
		return n, fmt.Errorf("read blob %v: %w: its file ends %d bytes early", r.digest, io.ErrUnexpectedEOF, r.left)
	}
	return n, err
}

// Close implements io.Closer.
func (r *reader) Close() error { return r.f.Close() }

// fileIsRight reads a blob's file and reports whether it is the blob, and when
// it was last written to. Pace is told of each piece, and may end it.
func (d *Disk) fileIsRight(path string, digest cas.Digest, pace func(n int) error) (ok bool, written int64, err error) {
	fd, err := openQuietly(path)
	if err != nil {
		return false, 0, err
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close() // nothing was written
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return false, 0, err
	}
	if st.Mode != unix.S_IFREG|blobMode || st.Size != digest.Size() {
		return false, 0, nil
	}
	_, err = io.CopyBuffer(io.Discard, untilStopped{cas.NewContent(digest, faultyReader{f, d.options.faults}), pace}, make([]byte, 256<<10))
	switch {
	case errors.Is(err, cas.ErrMismatch):
		return false, 0, nil
	case err != nil:
		return false, 0, err
	}
	return true, mtime(&st), nil
}

// faultyReader is a file whose reading may be made to fail.
type faultyReader struct {
	r      io.Reader
	faults faults
}

// Read implements io.Reader.
func (f faultyReader) Read(p []byte) (int, error) {
	if err := f.faults.at(opRead); err != nil {
		return 0, err
	}
	return f.r.Read(p)
}

// untilStopped is a reader that ends with an error when pace returns one.
type untilStopped struct {
	r    io.Reader
	pace func(n int) error
}

// Read implements io.Reader.
func (u untilStopped) Read(p []byte) (int, error) {
	n, err := u.r.Read(p)
	if stop := u.pace(n); stop != nil {
		return n, stop
	}
	return n, err
}
