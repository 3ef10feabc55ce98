package actioncache

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"golang.org/x/sys/unix"

	"github.com/hearth-build/hearth/cas"
)

// DiskOptions says where a Disk is and how much it may hold.
type DiskOptions struct {
	// Dir is the cache's own directory. It is made if it is missing. One
	// process uses it at a time, which is the caller's to ensure (the lock of
	// the blob store beside it does).
	Dir string
	// MaxBytes bounds what the results take on the disk (whole blocks of 4
	// KiB). 0: 1 GiB, some 260,000 results.
	MaxBytes int64
}

// Validate names every option that is wrong.
func (o DiskOptions) Validate() error {
	var errs []error
	if !filepath.IsAbs(o.Dir) {
		errs = append(errs, fmt.Errorf("directory %q is not an absolute path", o.Dir))
	}
	if o.MaxBytes < 0 {
		errs = append(errs, fmt.Errorf("the byte budget %d is negative", o.MaxBytes))
	}
	if len(errs) > 0 {
		return fmt.Errorf("action cache options: %w", errors.Join(errs...))
	}
	return nil
}

// Disk keeps results in files, for any number of namespaces under one budget.
// Nothing is synced: a record that a crash tore is found out when it is read.
type Disk struct {
	dir string

	// mu guards the index, and files being put in place or removed: there is
	// one such change at a time, so index and files agree.
	mu      sync.Mutex
	records *lru[string, struct{}] // by path below dir
}

const (
	defaultMaxBytes = 1 << 30
	blockSize       = 4096
	dirMode         = 0o700
)

// OpenDisk opens the cache in a directory, or makes one there. There is nothing
// to close.
func OpenDisk(ctx context.Context, o DiskOptions) (*Disk, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = defaultMaxBytes
	}
	d := &Disk{dir: filepath.Clean(o.Dir), records: newLRU[string, struct{}](o.MaxBytes)}
	err := os.RemoveAll(d.tmp())
	if err == nil {
		err = os.MkdirAll(d.tmp(), dirMode)
	}
	if err == nil {
		err = os.MkdirAll(filepath.Join(d.dir, resultsDir), dirMode)
	}
	if err == nil {
		err = d.load(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("open the action cache: %w", spaceError(err))
	}
	return d, nil
}

// The directory has tmp/, files being written, and
// ac/<namespace>/<function>/<hh>/<hash>-<size>, a record. hh begins the hash.
const resultsDir = "ac"

func (d *Disk) tmp() string { return filepath.Join(d.dir, "tmp") }

func recordPath(namespaceDir string, key cas.Digest) string {
	hash := key.Hash()
	return filepath.Join(resultsDir, namespaceDir, key.Function().String(), hash[:2], hash+"-"+strconv.FormatInt(key.Size(), 10))
}

// load finds all records, and puts them in the order of their last use as far
// as the disk knows it.
func (d *Disk) load(ctx context.Context) error {
	type found struct {
		path       string
		size, used int64
	}
	var all []found
	err := filepath.WalkDir(filepath.Join(d.dir, resultsDir), func(path string, e fs.DirEntry, err error) error {
		if err == nil {
			err = context.Cause(ctx)
		}
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return &fs.PathError{Op: "stat", Path: path, Err: err}
		}
		below, err := filepath.Rel(d.dir, path)
		all = append(all, found{below, st.Size, max(st.Atim.Nano(), st.Mtim.Nano())})
		return err
	})
	if err != nil {
		return err
	}
	slices.SortFunc(all, func(a, b found) int { return cmp.Compare(a.used, b.used) })
	for _, f := range all {
		if err := d.insertLocked(f.path, f.size); err != nil {
			return err
		}
	}
	return nil
}

// insertLocked accounts for a record in place and removes what is over the
// budget then.
func (d *Disk) insertLocked(path string, size int64) error {
	var errs []error
	charge := max(1, (size+blockSize-1)/blockSize) * blockSize
	for _, evicted := range d.records.put(path, struct{}{}, charge) {
		errs = append(errs, d.unlink(evicted))
	}
	return errors.Join(errs...)
}

func (d *Disk) unlink(path string) error {
	err := os.Remove(filepath.Join(d.dir, path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Namespace returns the cache of one namespace, an instance name of the API: a
// result stored in one is not visible in any other. Any string is allowed.
func (d *Disk) Namespace(name string) Cache {
	return &diskCache{disk: d, dir: cas.NamespaceDir(name)}
}

// spaceError makes what the kernel says about a full disk a cas.ErrNoSpace.
func spaceError(err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return fmt.Errorf("%w: the file system of the action cache is full: delete other files there (%w)", cas.ErrNoSpace, err)
	}
	return err
}

// diskCache is one namespace of a Disk.
type diskCache struct {
	disk *Disk
	dir  string
}

var _ Cache = (*diskCache)(nil)

// Get implements Cache.
func (c *diskCache) Get(ctx context.Context, key cas.Digest) (*repb.ActionResult, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	d, path := c.disk, recordPath(c.dir, key)
	d.mu.Lock()
	_, ok := d.records.get(path)
	d.mu.Unlock()
	if !ok {
		return nil, notFound(key)
	}
	r, err := d.read(path, key)
	if err == nil && r == nil {
		r, err = d.readAgain(path, key)
	}
	if err != nil {
		return nil, fmt.Errorf("read the result of action %v: %w", key, err)
	}
	if r == nil {
		return nil, notFound(key)
	}
	return r, nil
}

// read returns nil if there is no good record.
func (d *Disk) read(path string, key cas.Digest) (*repb.ActionResult, error) {
	record, err := os.ReadFile(filepath.Join(d.dir, path))
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.EIO), errors.Is(err, unix.EISDIR):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return decodeRecord(key, record), nil
}

// readAgain looks at a bad record while nobody can replace it by a good one,
// and removes it if it is still bad.
func (d *Disk) readAgain(path string, key cas.Digest) (*repb.ActionResult, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	r, err := d.read(path, key)
	if r != nil || err != nil {
		return r, err
	}
	d.records.remove(path)
	return nil, d.unlink(path)
}

// Put implements Cache.
func (c *diskCache) Put(ctx context.Context, key cas.Digest, r *repb.ActionResult) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	record, err := encodeRecord(key, r)
	if err != nil {
		return err
	}
	if err := c.disk.write(recordPath(c.dir, key), record); err != nil {
		return fmt.Errorf("store the result of action %v: %w", key, spaceError(err))
	}
	return nil
}

func (d *Disk) write(path string, record []byte) error {
	if size := int64(len(record)); size > d.records.max {
		return fmt.Errorf("%w: it has %d bytes, the whole cache holds %d", cas.ErrTooLarge, size, d.records.max)
	}
	f, err := os.CreateTemp(d.tmp(), "")
	if err != nil {
		return err
	}
	_, err = f.Write(record)
	err = errors.Join(err, f.Close())
	if err == nil {
		err = d.place(f.Name(), path, int64(len(record)))
	}
	if err != nil {
		// Best effort: what stays is removed at the next start.
		_ = os.Remove(f.Name())
	}
	return err
}

// place puts a written record where Get finds it.
func (d *Disk) place(from, path string, size int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	to := filepath.Join(d.dir, path)
	if _, ok := d.records.get(path); ok {
		// A rename over a file makes ext4 write the new one out at once, which
		// doubles the cost of all this and buys a cache nothing.
		if err := d.unlink(path); err != nil {
			return err
		}
	}
	err := os.Rename(from, to)
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(filepath.Dir(to), dirMode); err != nil {
			return err
		}
		err = os.Rename(from, to)
	}
	if err != nil {
		return err
	}
	return d.insertLocked(path, size)
}
