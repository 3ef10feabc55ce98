package tree

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// TrashName is the directory that holds removed trees until they are deleted,
// where no other was chosen. Only its owner can look into it.
const TrashName = ".hearth-trash"

// trash moves trees out of the way at once and deletes them in the background,
// one after the other, as it does other chores that nobody waits for.
type trash struct {
	dir string // "": beside each tree
	log *slog.Logger

	mu     sync.Mutex
	queue  chan chore
	closed bool

	worker errgroup.Group
	failed []error // of the worker, read when it has ended
}

// rubbish is one tree in a trash directory.
type rubbish struct{ dir, name string }

// chore is something to be cleaned up.
type chore struct {
	path string // that is affected
	do   func() error
}

func newTrash(dir string, most int, log *slog.Logger) *trash {
	t := &trash{dir: dir, log: log, queue: make(chan chore, most)}
	t.worker.Go(func() error {
		for c := range t.queue {
			t.doLater(c)
		}
		return nil
	})
	return t
}

func (t *trash) close() error {
	t.mu.Lock()
	if !t.closed {
		t.closed = true
		close(t.queue)
	}
	t.mu.Unlock()
	return errors.Join(t.worker.Wait(), errors.Join(t.failed...))
}

// doLater has nobody to return an error to but the log and close.
func (t *trash) doLater(c chore) {
	err := c.do()
	if err == nil {
		return
	}
	t.log.Error("cannot clean up after an action; it takes up space until it is removed by hand", "path", c.path, "error", err)
	const most = 16
	if len(t.failed) < most {
		t.failed = append(t.failed, err)
	}
}

// discard makes dir disappear. One that is gone already is fine. Also one that is empty
// goes to the trash, since it takes the kernel less time to rename it.
func (t *trash) discard(dir string) error {
	dir, err := placeOf(dir)
	if err != nil {
		return err
	}
	return t.discardAt(unix.AT_FDCWD, dir, trashBeside(dir))
}

// discardAt does so for a path from an open directory, whose trash may be beside.
func (t *trash) discardAt(at int, path, beside string) error {
	r, err := t.move(at, path, beside)
	if err != nil || r.name == "" {
		return err
	}
	return t.later(chore{filepath.Join(r.dir, r.name), r.delete})
}

// trashBeside is the trash of a tree if there is no common one.
func trashBeside(dir string) string { return filepath.Join(filepath.Dir(dir), TrashName) }

// later does a chore in the background, or at once if there is too much to do.
func (t *trash) later(c chore) error {
	if t.enqueue(c) {
		return nil
	}
	return c.do()
}

func (t *trash) enqueue(c chore) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	select {
	case t.queue <- c:
		return true
	default:
		return false
	}
}

// move renames what is at path from an open directory into the trash. A rename takes what is
// there by that name, be it a link, without following it.
func (t *trash) move(at int, path, beside string) (rubbish, error) {
	if t.dir == "" {
		r, err := moveTo(at, path, beside)
		if errors.Is(err, unix.ENOENT) {
			return rubbish{}, nil // where there is no place for trash there was none for a tree
		}
		return r, err
	}
	r, err := moveTo(at, path, t.dir)
	if errors.Is(err, unix.EXDEV) {
		return moveTo(at, path, beside)
	}
	return r, err
}

func moveTo(at int, path, trashDir string) (rubbish, error) {
	fd, err := makeTrash(trashDir)
	if err != nil {
		return rubbish{}, err
	}
	defer unix.Close(fd)
	for range 10 {
		as := fmt.Sprintf("%016x", rand.Uint64())
		err = unix.Renameat2(at, path, fd, as, unix.RENAME_NOREPLACE)
		if err == unix.EPERM || err == unix.EACCES {
			unlockPlace(at, path)
			err = unix.Renameat2(at, path, fd, as, unix.RENAME_NOREPLACE)
		}
		switch err {
		case nil:
			return rubbish{dir: trashDir, name: as}, nil
		case unix.ENOENT:
			return rubbish{}, nil
		case unix.EEXIST:
			continue
		case unix.EBUSY:
			return rubbish{}, fmt.Errorf("remove %s: it is a mount point; unmount it first: %w", path, err)
		}
		break
	}
	return rubbish{}, fmt.Errorf("move %s to the trash %s: %w", path, trashDir, err)
}

// unlockPlace is unlock for what is to be moved.
func unlockPlace(at int, path string) {
	place, name := filepath.Split(path)
	if fd, err := openatRetry(at, cmp.Or(place, "."), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC); err == nil {
		unlock(fd, name)
		unix.Close(fd)
	}
}

// makeTrash opens a trash directory, and makes it first if it is not there.
func makeTrash(dir string) (int, error) {
	fd, err := openTrash(dir)
	if !errors.Is(err, unix.ENOENT) {
		return fd, err
	}
	if err := unix.Mkdir(dir, 0o700); err != nil && err != unix.EEXIST {
		return -1, fmt.Errorf("make trash directory %s: %w", dir, err)
	}
	return openTrash(dir)
}

// openTrash opens a trash directory. An action that is root may have put
// anything in its place; then it is left alone.
func openTrash(dir string) (int, error) {
	fd, err := openRoot(dir)
	if err != nil {
		return -1, fmt.Errorf("open trash directory %s: %w", dir, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("look at trash directory %s: %w", dir, err)
	}
	if int(st.Uid) != os.Geteuid() || st.Mode&0o077 != 0 {
		unix.Close(fd)
		return -1, fmt.Errorf("trash directory %s is open to others (owner %d, mode %#o): remove it", dir, st.Uid, st.Mode&0o7777)
	}
	return fd, nil
}

// delete deletes what was moved to the trash. It never makes the directory
// anew: whoever removes the place of the trash must be able to.
func (r rubbish) delete() error {
	fd, err := openTrash(r.dir)
	if errors.Is(err, unix.ENOENT) {
		return nil // the place went away with all that was in it
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if unix.Unlinkat(fd, r.name, unix.AT_REMOVEDIR) == nil {
		return nil // many actions leave nothing
	}
	if err := removeAll(fd, r.name); err != nil {
		return fmt.Errorf("delete %s: %w", filepath.Join(r.dir, r.name), err)
	}
	return nil
}

// SweepTrash deletes all that an earlier process left in the trash directory
// dir, whatever an action has made of it. Dir itself stays; if there is none,
// there is nothing to do.
func SweepTrash(dir string) error {
	fd, err := openRoot(dir)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open trash directory %s: %w", dir, err)
	}
	defer unix.Close(fd)
	var names []string
	err = readDir(fd, func(e dirent) error {
		names = append(names, e.name)
		return nil
	})
	if err != nil {
		return fmt.Errorf("read trash directory %s: %w", dir, err)
	}
	var failed []error
	for _, name := range names {
		failed = append(failed, removeAll(fd, name))
	}
	if err := errors.Join(failed...); err != nil {
		return fmt.Errorf("sweep trash directory %s: %w", dir, err)
	}
	return nil
}
