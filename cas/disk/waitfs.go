package disk

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// waitFS is a file system on which a write that fails for want of space, or by
// an error of the disk, waits until it succeeds. The key-value library takes
// such an error for the end of the process; here new work is refused meanwhile
// (trouble), reads go on, and all goes on by itself when the cause is gone.
type waitFS struct {
	vfs.FS
	log     *slog.Logger
	waiting atomic.Int32
	last    atomic.Pointer[error]
	// onTrouble is called when a write begins to wait.
	onTrouble   func()
	compactions *compactions
	buffers     sync.Pool // of *bufio.Writer, for pieces
	spares      spares
}

// trouble returns the error that keeps a write waiting, if any.
func (w *waitFS) trouble() error {
	if w.waiting.Load() == 0 {
		return nil
	}
	if err := w.last.Load(); err != nil {
		return spaceError(*err)
	}
	return nil
}

const (
	firstRetry = 5 * time.Millisecond
	lastRetry  = 500 * time.Millisecond
)

// passing reports whether an error may pass by itself or with some help.
func passing(err error) bool {
	for _, e := range []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT, syscall.EIO, syscall.EROFS, syscall.ENOMEM, syscall.EMFILE, syscall.ENFILE} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// do repeats a call until its error is none that passes.
func (w *waitFS) do(call func() error) error {
	err := call()
	if err == nil || !passing(err) {
		return err
	}
	w.note(err)
	if w.waiting.Add(1) == 1 {
		w.onTrouble()
		w.log.Error("the store cannot write and refuses new blobs until it can", slog.Any("error", err))
	}
	defer w.waiting.Add(-1)
	defer w.spares.pause()()
	if err := w.spares.remove(w.FS); err != nil {
		w.log.Warn("spare files of the store stay", slog.Any("error", err))
	}
	for pause := firstRetry; passing(err); pause = min(2*pause, lastRetry) {
		<-time.After(pause)
		if err = call(); err != nil {
			w.note(err)
		}
	}
	return err
}

// note keeps the error for trouble to tell.
func (w *waitFS) note(err error) { w.last.Store(&err) }

// open waits for a file.
func (w *waitFS) open(open func() (vfs.File, error)) (f vfs.File, err error) {
	err = w.do(func() (err error) {
		f, err = open()
		return err
	})
	return f, err
}

// file is open for a file that waits itself.
func (w *waitFS) file(name string, open func() (vfs.File, error)) (vfs.File, error) {
	f, err := w.open(open)
	if err != nil {
		return nil, err
	}
	return &waitFile{File: f, fs: w, log: strings.HasSuffix(name, logSuffix)}, nil
}

// Create implements vfs.FS.
func (w *waitFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	create := func() (vfs.File, error) { return w.FS.Create(name, c) }
	switch c {
	case compaction:
		w.compactions.await()
		f, err := create()
		if err != nil {
			return nil, err
		}
		return w.compactions.watch(w.inPieces(f)), nil
	case flush:
		spare, reused := w.spares.take(name)
		if reused {
			create = w.reuse(spare, name, c)
		}
		f, err := w.open(create)
		if err != nil {
			return nil, err
		}
		p := w.inPieces(f)
		p.reused = reused
		return p, nil
	}
	return w.file(name, create)
}

// OpenReadWrite implements vfs.FS.
func (w *waitFS) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	return w.file(name, func() (vfs.File, error) { return w.FS.OpenReadWrite(name, c, opts...) })
}

// OpenDir implements vfs.FS.
func (w *waitFS) OpenDir(name string) (vfs.File, error) {
	return w.file(name, func() (vfs.File, error) { return w.FS.OpenDir(name) })
}

// ReuseForWrite implements vfs.FS.
func (w *waitFS) ReuseForWrite(oldname, newname string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return w.file(newname, w.reuse(oldname, newname, c))
}

// reuse renames and opens: if only the second failed, the file has its new name when this
// is tried again.
func (w *waitFS) reuse(oldname, newname string, c vfs.DiskWriteCategory) func() (vfs.File, error) {
	again := false
	return func() (vfs.File, error) {
		f, err := w.FS.ReuseForWrite(oldname, newname, c)
		if again && errors.Is(err, fs.ErrNotExist) {
			return w.FS.Create(newname, c)
		}
		again = true
		return f, err
	}
}

// Link implements vfs.FS.
func (w *waitFS) Link(oldname, newname string) error {
	return w.do(func() error { return w.FS.Link(oldname, newname) })
}

// Rename implements vfs.FS.
func (w *waitFS) Rename(oldname, newname string) error {
	return w.do(func() error { return w.FS.Rename(oldname, newname) })
}

// Remove implements vfs.FS.
func (w *waitFS) Remove(name string) error {
	if w.spares.keep(w.FS, name) {
		return nil
	}
	return w.do(func() error { return w.FS.Remove(name) })
}

// MkdirAll implements vfs.FS.
func (w *waitFS) MkdirAll(dir string, mode os.FileMode) error {
	return w.do(func() error { return w.FS.MkdirAll(dir, mode) })
}

// Unwrap implements vfs.FS.
func (w *waitFS) Unwrap() vfs.FS { return w.FS }

// waitFile is a file on a waitFS.
type waitFile struct {
	vfs.File
	fs *waitFS
	// log: it reaches the kernel and no further. Sync points see to what has to be
	// durable.
	log   bool
	hasty bool // a write that fails does not wait
}

// Write implements io.Writer. What was written before an error is not written
// again. Whoever writes lets others go first: the library writes for many milliseconds on
// end, and a goroutine that a client waits for could come to it only when the scheduler
// interrupts one.
func (f *waitFile) Write(p []byte) (n int, err error) {
	runtime.Gosched()
	if f.hasty {
		return f.File.Write(p)
	}
	err = f.fs.do(func() error {
		m, err := f.File.Write(p[n:])
		n += m
		return err
	})
	return n, err
}

// WriteAt implements io.WriterAt.
func (f *waitFile) WriteAt(p []byte, off int64) (n int, err error) {
	err = f.fs.do(func() (err error) {
		n, err = f.File.WriteAt(p, off)
		return err
	})
	return n, err
}

// Preallocate implements vfs.File.
func (f *waitFile) Preallocate(off, length int64) error {
	return f.fs.do(func() error { return f.File.Preallocate(off, length) })
}

// Sync implements vfs.File. A sync that succeeds after one that failed may have
// lost writes in between; they are found out by checksum.
func (f *waitFile) Sync() error {
	if f.log {
		return nil
	}
	return f.fs.do(f.File.Sync)
}

// SyncData implements vfs.File.
func (f *waitFile) SyncData() error {
	if f.log {
		return nil
	}
	return f.fs.do(f.File.SyncData)
}

// SyncTo implements vfs.File.
func (f *waitFile) SyncTo(length int64) (full bool, err error) {
	err = f.fs.do(func() (err error) {
		full, err = f.File.SyncTo(length)
		return err
	})
	return full, err
}
