package disk

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hearth-build/hearth/cas"
)

// Disk is an open store. Its namespaces share one budget.
type Disk struct {
	options Options
	layout  layout
	lock    *os.File
	dir     *os.File
	files   *files
	space   *space

	remains   remains
	reclaimer reclaimer
	values    *kv
	index     *index
	buffers   sync.Pool   // of *[copyBuffer]byte
	dirty     atomic.Bool // something was written since the last sync point

	stop       context.CancelCauseFunc
	background sync.WaitGroup
	// The writer of the queue outlives the rest of the background.
	stopWriting context.CancelCauseFunc
	writing     sync.WaitGroup

	// life is read-locked while files are put in place or removed for good, so
	// that nothing changes once Close holds it.
	life   sync.RWMutex
	closed bool // guarded by life

	mu            sync.Mutex // guards all below
	namespaces    map[string]namespaceID
	namespaceDirs atomic.Pointer[[]string] // by number; replaced under mu, read without
}

var errClosed = errors.New("the store is closed")

// Open opens the store in a directory, or makes one there. It is this process's
// alone until Close.
func Open(ctx context.Context, options Options) (*Disk, error) {
	d, err := load(ctx, options)
	if err != nil {
		return nil, err
	}
	d.start(context.WithoutCancel(ctx))
	return d, nil
}

// load is Open without the work in the background.
func load(ctx context.Context, options Options) (*Disk, error) {
	if err := options.Validate(); err != nil {
		return nil, err
	}
	options = options.withDefaults()
	d := &Disk{
		options:    options,
		layout:     layout{filepath.Clean(options.Dir)},
		index:      newIndex(),
		remains:    remains{wake: make(chan struct{}, 1)},
		buffers:    sync.Pool{New: func() any { return new([copyBuffer]byte) }},
		namespaces: make(map[string]namespaceID),
	}
	d.namespaceDirs.Store(new([]string))
	if err := d.open(ctx); err != nil {
		return nil, fmt.Errorf("open the store: %w", errors.Join(err, d.closeFiles()))
	}
	return d, nil
}

func (d *Disk) open(ctx context.Context) (err error) {
	l := d.layout
	if err := os.MkdirAll(l.dir, dirMode); err != nil {
		return spaceError(err)
	}
	if d.lock, err = lockDir(l); err != nil {
		return err
	}
	if err := claimFormat(l, d.options.Logger); err != nil {
		return err
	}
	if err := d.makeDirs(); err != nil {
		return spaceError(err)
	}
	if d.dir, err = os.Open(l.dir); err != nil {
		return err
	}
	if d.space, err = newSpace(int(d.dir.Fd()), d.options.MinFreeBytes); err != nil {
		return err
	}
	d.index.spans.size = spanSize(d.space.memtable, d.options.MaxBytes)
	if d.files, err = newFiles(l.tmp(), d.options.faults); err != nil {
		return err
	}
	last, err := readState(l)
	if err != nil {
		return err
	}
	if err := d.openValues(); err != nil {
		return err
	}
	if err := d.loadIndex(ctx, last); err != nil {
		return err
	}
	if err := d.setBudget(); err != nil {
		return err
	}
	// From here on a stop is unclean until Close says otherwise. What was in
	// doubt stays so: the sync point does not move.
	last.Clean = false
	return writeState(l, last)
}

// makeDirs makes what is missing, and empties tmp of what a crash left. Copies
// are begun anew: what the last run left of them is removed in the background.
func (d *Disk) makeDirs() error {
	l := d.layout
	if err := errors.Join(os.RemoveAll(l.tmp()), os.MkdirAll(l.old(), dirMode)); err != nil {
		return err
	}
	err := os.Rename(l.copies(), filepath.Join(l.old(), strconv.FormatInt(time.Now().UnixNano(), 36)))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, dir := range []string{l.tmp(), l.blobs(), l.copies()} {
		if err := os.MkdirAll(dir, dirMode); err != nil {
			return err
		}
	}
	return nil
}

// setBudget works out the budget and evicts what is over it.
func (d *Disk) setBudget() error {
	d.index.max = d.options.MaxBytes
	if d.index.max == 0 {
		free, err := statfs(int(d.dir.Fd()))
		if err != nil {
			return err
		}
		d.index.max = (max(0, free.bytes) + d.index.used) / 5 * 4
	}
	d.index.mu.Lock()
	victims := d.index.evictLocked(d.index.used-d.index.max, nil)
	d.index.mu.Unlock()
	return d.removeNow(victims)
}

func (d *Disk) start(ctx context.Context) {
	ctx, d.stop = context.WithCancelCause(ctx)
	d.startWriter(context.WithoutCancel(ctx))
	d.background.Go(func() { d.warnIf("remove old copies of blobs", os.RemoveAll(d.layout.old())) })
	d.background.Go(func() { d.verifyAll(ctx) })
	d.background.Go(func() { d.syncEvery(ctx) })
	d.background.Go(func() { d.remains.freeAlways(ctx) })
	if d.options.ScrubRate > 0 {
		d.background.Go(func() { d.scrub(ctx) })
	}
}

func (d *Disk) startWriter(ctx context.Context) {
	ctx, d.stopWriting = context.WithCancelCause(ctx)
	d.writing.Go(func() { d.writeQueue(ctx) })
}

// enter keeps Close waiting until life is unlocked.
func (d *Disk) enter() error {
	d.life.RLock()
	if d.closed {
		d.life.RUnlock()
		return errClosed
	}
	return nil
}

// Close makes all that was stored durable and gives the directory free. Puts in
// progress fail, without waiting for their clients; blobs that are being read
// can be read to their end.
func (d *Disk) Close() error {
	d.life.Lock()
	if d.closed {
		d.life.Unlock()
		return nil
	}
	d.closed = true
	d.life.Unlock()
	d.stop(errClosed)
	d.background.Wait()
	d.remains.free()
	err := errors.Join(d.sync(context.Background(), true), d.writeOrder())
	d.stopWriting(errClosed)
	d.values.fs.compactions.stop()
	if d.values.fs.trouble() == nil {
		d.writing.Wait()
	}
	return errors.Join(err, d.closeFiles())
}

func (d *Disk) closeFiles() error {
	var errs []error
	if d.values != nil {
		errs = append(errs, d.values.close())
	}
	for _, f := range []*os.File{d.dir, d.lock} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}

// Namespace returns the store of one namespace, an instance name of the API: a
// blob stored in one is not visible in any other. Any string is allowed.
func (d *Disk) Namespace(name string) *Store {
	dir := cas.NamespaceDir(name)
	return &Store{disk: d, id: d.namespaceID(dir), dir: dir}
}

func (d *Disk) namespaceID(dir string) namespaceID {
	d.mu.Lock()
	defer d.mu.Unlock()
	id, ok := d.namespaces[dir]
	if !ok {
		dirs := append(*d.namespaceDirs.Load(), dir)
		id = namespaceID(len(dirs) - 1)
		d.namespaces[dir] = id
		d.namespaceDirs.Store(&dirs)
	}
	return id
}

func (d *Disk) namespaceDir(id namespaceID) string { return (*d.namespaceDirs.Load())[id] }

// dirOf returns the directory of an entry's namespace.
func (d *Disk) dirOf(e *entry) string {
	id, _ := binary.Uvarint(e.name()[1:])
	return d.namespaceDir(namespaceID(id))
}

// path returns where a blob's file is.
func (d *Disk) path(e *entry) string {
	ns, digest := e.key().split()
	if e.small {
		return d.layout.copy(d.namespaceDir(ns), digest)
	}
	return d.layout.blob(d.namespaceDir(ns), digest)
}

// isSmall reports whether a blob of this size goes to the key-value side.
func (d *Disk) isSmall(size int64) bool { return size < d.options.split }

// Stats is how full a Disk is.
type Stats struct {
	Blobs    int   // stored
	Bytes    int64 // that they take on the disk
	MaxBytes int64 // the budget
	Reserved int64 // bytes of blobs on their way in
	Pinned   int   // digests that must not be evicted now
	Unproven int   // blobs that are checked before their next use
	// What was evicted since the store was opened, in bytes that it took.
	Evicted      int
	EvictedBytes int64
}

// Stats returns how full the store is.
func (d *Disk) Stats() Stats {
	x := d.index
	x.mu.Lock()
	defer x.mu.Unlock()
	return Stats{
		Blobs: x.blobs.len(), Bytes: x.used, MaxBytes: x.max,
		Reserved: x.reserved, Pinned: len(x.pins), Unproven: x.suspects,
		Evicted: x.evicted, EvictedBytes: x.evictedBytes,
	}
}

var _ slog.LogValuer = Stats{}

// LogValue implements slog.LogValuer.
func (s Stats) LogValue() slog.Value {
	return slog.GroupValue(slog.Int("blobs", s.Blobs), slog.Int64("bytes", s.Bytes), slog.Int64("max_bytes", s.MaxBytes))
}
