package disk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// kv is the key-value library that holds small blobs and action results. A
// value that was torn or flipped is found out by checksum (seal), the library's
// own or ours, and never returned.
type kv struct {
	db *pebble.DB
	fs *waitFS
	// reclaiming has compactions copy values from among dead ones.
	reclaiming atomic.Bool

	ending  sync.Mutex
	written <-chan struct{} // closed once the memtable that was ended last is in a file; guarded by ending
}

// kvOptions is what the library is opened with.
type kvOptions struct {
	dir      string
	memtable uint64
	fs       vfs.FS // under the one that waits
	log      *slog.Logger
	// onTrouble is called when the key-value side cannot write or compact.
	onTrouble func()
	// free tells how many bytes the file system has left, of which compactions
	// leave so many to others.
	free  func() int64
	floor int64
}

// openKV opens the values in a directory. What the library cannot make sense of
// is given up, its logs first, which a power failure may have torn and which
// hold nothing from before the last sync point: all can be had again, and a
// store that does not start helps nobody.
func openKV(o kvOptions) (*kv, error) {
	c := &compactions{free: o.free, floor: o.floor, onFailure: o.onTrouble}
	c.wanted, c.stop = context.WithCancel(context.Background())
	s := &kv{fs: &waitFS{FS: o.fs, log: o.log, onTrouble: o.onTrouble, compactions: c}}
	err := s.open(o)
	for _, remedy := range []struct{ pattern, lost string }{
		{"*" + logSuffix, "the latest small blobs and action results in the store"},
		{"*", "the small blobs and action results in the store"},
	} {
		if err == nil || hostsFault(err) {
			break
		}
		o.log.Error(remedy.lost+" are damaged and were dropped; uploads heal it", slog.String("dir", o.dir), slog.Any("error", err))
		if err := removeAll(o.dir, remedy.pattern); err != nil {
			return nil, err
		}
		err = s.open(o)
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", o.dir, spaceError(err))
	}
	return s, nil
}

func (s *kv) open(o kvOptions) (err error) {
	if err := removeAll(o.dir, sparePrefix+"*"); err != nil { // which a crash left
		return err
	}
	s.db, err = pebble.Open(o.dir, s.pebble(o))
	return err
}

// logSuffix ends the names of the library's logs.
const logSuffix = ".log"

// removeAll removes what matches a pattern in a directory.
func removeAll(dir, pattern string) error {
	names, err := filepath.Glob(filepath.Join(dir, pattern))
	for _, name := range names {
		err = errors.Join(err, os.RemoveAll(name))
	}
	return err
}

// hostsFault reports whether an error says more about the host than about the
// files: those are kept.
func hostsFault(err error) bool {
	var errno syscall.Errno
	return errors.As(err, &errno) && !errors.Is(err, fs.ErrNotExist)
}

const (
	minMemtable = 256 << 10
	maxMemtable = 32 << 20
	// memtables is how many may be in memory, written out or not; each has its
	// log on the disk. The library keeps the memory of one for the next: that of a
	// third would be new each time.
	memtables  = 2
	blockCache = 16 << 20
	// valueBlock is what is read at once. Smaller ones take longer to write, and are no
	// quicker to read from files of the size of a memtable, whose indexes grow.
	valueBlock = 16 << 10
	// maxValues is how many files of values a table refers to before they are
	// put together: a read touches one of them, so many do no harm, and to put
	// them together copies all values. Where space is wanted, dead values among
	// others go at the lower number.
	maxValues     = 200
	reclaimValues = 12
	// Values go where compaction does not copy them, but for the tiniest.
	minSeparate = 128
	// Values of which many are dead are copied when their keys are compacted.
	// The library can do so on its own account as well, but ends the process
	// when it cannot read one of them (2.1.7): 1 is never.
	garbage = 1
)

// memtableSize scales what the library writes at once to the file system.
func memtableSize(total int64) uint64 {
	return uint64(max(minMemtable, min(maxMemtable, total/128)))
}

// pebble tunes the library for this use: keys in order, values that are written
// once, no need for durability before the next sync point, two cores.
func (s *kv) pebble(o kvOptions) *pebble.Options {
	log := kvLogger{o.log}
	p := &pebble.Options{
		FormatMajorVersion:          pebble.FormatValueSeparation,
		FS:                          s.fs,
		Logger:                      log,
		EventListener:               log.events(s.fs.compactions),
		CacheSize:                   blockCache,
		MaxOpenFiles:                500,
		MemTableSize:                o.memtable,
		MemTableStopWritesThreshold: memtables,
		// Reads ask for one key at a time and know that it is there: many
		// files on top of each other cost little, compactions and stops cost
		// writers much.
		L0CompactionThreshold:      12,
		L0StopWritesThreshold:      100,
		CompactionConcurrencyRange: func() (lower, upper int) { return 1, 1 },
		BytesPerSync:               1 << 20,
	}
	// A memtable becomes one table with one file of values. By default it is sixteen of
	// each, whose creation costs a third of what it takes to store a blob.
	for level := range p.TargetFileSizes {
		p.TargetFileSizes[level] = 2 * int64(o.memtable)
		p.Levels[level].BlockSize = valueBlock
	}
	p.FlushSplitBytes = 4 * int64(o.memtable)
	// Blobs are compressed already or too small for it to pay.
	p.ApplyCompressionSettings(func() pebble.DBCompressionSettings { return pebble.DBCompressionNone })
	// Otherwise what cannot be excised would keep a memtable from being written for ever.
	p.Experimental.DisableIngestAsFlushable = func() bool { return true }
	p.Experimental.ValueSeparationPolicy = func() pebble.ValueSeparationPolicy {
		depth := maxValues
		if s.reclaiming.Load() {
			depth = reclaimValues
		}
		return pebble.ValueSeparationPolicy{
			Enabled: true, MinimumSize: minSeparate, MaxBlobReferenceDepth: depth, TargetGarbageRatio: garbage,
		}
	}
	return p
}

// get returns a value in memory of its own: sealed by name, it is size bytes of what lies
// under key. What is absent, or not what was stored, is errBadRecord.
func (s *kv) get(key, name []byte, offset, size int) ([]byte, error) {
	record, closer, err := s.db.Get(key)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errBadRecord, err)
	}
	var value []byte
	err = errBadRecord
	if len(record) >= offset+size {
		if data, ok := unseal(name, record[offset:][:size]); ok {
			value, err = append(make([]byte, 0, len(data)), data...), nil
		}
	}
	return value, errors.Join(err, closer.Close())
}

// errBadRecord: a value is not there or not what was stored.
var errBadRecord = errors.New("the stored value is damaged")

// sync makes all that was written durable, without its log.
func (s *kv) sync() error {
	written, err := s.endFile()
	if err == nil {
		<-written
	}
	return err
}

// endFile has what is written from now on go to another file of values. It waits for the
// one before: the library writes all memtables that wait to one file.
func (s *kv) endFile() (written <-chan struct{}, err error) {
	s.ending.Lock()
	defer s.ending.Unlock()
	if s.written != nil {
		<-s.written
	}
	if written, err = s.db.AsyncFlush(); err == nil {
		s.written = written
	}
	return written, err
}

// excise drops all keys of a stretch of time without a look at them.
func (s *kv) excise(from, to int64) error {
	start, end := appendTime(nil, from), appendTime(nil, to)
	if err := s.readAround(start, end); err != nil {
		return err
	}
	return s.db.Excise(context.Background(), pebble.KeyRange{Start: start, End: end})
}

// readAround reads what is next to a range of keys. The library does so, too, and takes
// what it cannot read for nothing (2.1.7): all else in the table would go.
func (s *kv) readAround(start, end []byte) error {
	it, err := s.db.NewIter(nil)
	if err != nil {
		return err
	}
	it.SeekLT(start)
	err = it.Error()
	if err == nil {
		it.SeekGE(end)
		err = it.Error()
	}
	return errors.Join(err, it.Close())
}

// reclaim gives the space of deleted values back to the file system. It ends
// when compactions are stopped: there may be no room for it for ever.
func (s *kv) reclaim() error {
	s.reclaiming.Store(true)
	defer s.reclaiming.Store(false)
	if err := s.sync(); err != nil {
		return err
	}
	return s.db.Compact(s.fs.compactions.wanted, []byte{0}, []byte{0xff}, false)
}

// close ends the library, which waits for its background work. In trouble that
// would last as long as the trouble: the process ends without.
func (s *kv) close() error {
	if err := s.fs.trouble(); err != nil {
		return fmt.Errorf("the latest small blobs and action results may be lost: %w", err)
	}
	s.fs.compactions.stop()
	err := s.db.Close()
	return errors.Join(err, s.fs.spares.remove(s.fs.FS))
}

// kvLogger is what the library tells.
type kvLogger struct{ *slog.Logger }

var _ pebble.Logger = kvLogger{}

// Infof implements pebble.Logger: every flush is too much to tell.
func (kvLogger) Infof(string, ...any) {}

// Errorf implements pebble.Logger.
func (l kvLogger) Errorf(format string, args ...any) {
	l.Error("in the store of small blobs: " + fmt.Sprintf(format, args...))
}

// Fatalf implements pebble.Logger. It is called where the library's own state
// makes no sense, never for a write that failed (waitFS).
func (l kvLogger) Fatalf(format string, args ...any) {
	panic("the store of small blobs: " + fmt.Sprintf(format, args...))
}

// events keeps the library from ending the process over a damaged file.
func (l kvLogger) events(c *compactions) *pebble.EventListener {
	var mu sync.Mutex
	var told time.Time // guarded by mu: the library tries again at once
	e := &pebble.EventListener{
		CompactionBegin: c.begin,
		CompactionEnd:   c.end,
		BackgroundError: func(err error) {
			mu.Lock()
			defer mu.Unlock()
			if now := time.Now(); now.Sub(told) >= time.Minute {
				told = now
				l.Warn("work on the small blobs was put off", slog.String("error", err.Error()))
			}
		},
		DataCorruption: func(info pebble.DataCorruptionInfo) {
			l.Warn("small blobs are damaged; each is dropped when it is found", slog.String("file", info.Path))
		},
	}
	e.EnsureDefaults(l)
	return e
}
