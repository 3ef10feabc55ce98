package disk

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/hearth-build/hearth/cas"
)

// scan fills the index from what lies on the disk.
type scan struct {
	disk *Disk
	// Files written to from this time on are in doubt, if any are.
	suspectFrom int64
	anySuspect  bool
	order       order

	mu    sync.Mutex // guards all below
	found []scanned
	odd   int // files that are not ours
}

// scanned is a blob with the time of its last use, as far as the disk knows it.
type scanned struct {
	entry *entry
	used  int64
}

// loadIndex finds all blobs. Those of the wrong size are removed, and after an
// unclean stop the young ones are in doubt.
func (d *Disk) loadIndex(ctx context.Context, last state) error {
	from, anySuspect := last.suspectFrom()
	used, err := readOrder(d.layout)
	if err != nil {
		return err
	}
	start := time.Now()
	s := &scan{disk: d, suspectFrom: from.UnixNano(), anySuspect: anySuspect, order: used}
	if last.Synced.IsZero() {
		s.suspectFrom = 0
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	if err := s.values(ctx); err != nil {
		return err
	}
	if err := s.walk(ctx, g); err != nil {
		return fmt.Errorf("read the store: %w", err)
	}
	slices.SortFunc(s.found, func(a, b scanned) int {
		// Of two of one time, the one in the pack was on its way out of it.
		return cmp.Or(cmp.Compare(a.used, b.used), cmp.Compare(a.entry.written, b.entry.written), cmp.Compare(b.entry.nth, a.entry.nth))
	})
	d.index.mu.Lock()
	defer d.index.mu.Unlock()
	d.index.blobs.grow(len(s.found))
	for _, f := range s.found {
		if older := d.index.blobs.get(f.entry.key()); older != nil { // which damage brought back
			d.index.dropLocked(older)
		}
		d.index.addLocked(f.entry)
	}
	if s.odd > 0 {
		d.options.Logger.Warn("the store has files in it that are none of its own; they count for nothing and are left alone",
			slog.String("dir", d.layout.blobs()), slog.Int("files", s.odd))
	}
	d.options.Logger.Info("the store is open", slog.Int("blobs", len(s.found)), slog.Int64("bytes", d.index.used),
		slog.Int("to_check", d.index.suspects), slog.Duration("took", time.Since(start)))
	return nil
}

// walk reads cas/<namespace>/<function>/<hh>, several of the last at once.
func (s *scan) walk(ctx context.Context, g *errgroup.Group) error {
	err := s.eachDir(s.disk.layout.blobs(), func(namespace, path string) error {
		id := s.disk.namespaceID(namespace)
		return s.eachDir(path, func(function, path string) error {
			f, ok := parseFunction(function)
			if !ok {
				s.notOurs(1)
				return nil
			}
			return s.eachDir(path, func(fanOut, path string) error {
				g.Go(func() error {
					if err := context.Cause(ctx); err != nil {
						return err
					}
					return s.readDir(path, id, f)
				})
				return nil
			})
		})
	})
	if waitErr := g.Wait(); err == nil {
		err = waitErr
	}
	return err
}

func (s *scan) eachDir(dir string, f func(name, path string) error) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.IsDir() {
			s.notOurs(1)
			continue
		}
		if err := f(e.Name(), filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

func (s *scan) notOurs(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.odd += n
}

// readDir adds the blobs of one fan-out directory.
func (s *scan) readDir(path string, ns namespaceID, f cas.Function) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close() // nothing was written
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return err
	}
	var found []scanned
	copies := make(map[key]unix.Stat_t) // executable ones
	odd := 0
	for _, name := range names {
		d, executable, ok := parseFile(f, filepath.Base(path), name)
		if !ok {
			odd++
			continue
		}
		var st unix.Stat_t
		if err := unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			s.disk.warnIf("look at a blob", &os.PathError{Op: "stat", Path: filepath.Join(path, name), Err: err})
			continue
		}
		switch {
		case executable:
			copies[newKey(ns, d)] = st
		case !ours(&st, d.Size(), mtime(&st), blobMode):
			s.disk.warnIf("remove a damaged blob", removeFile(filepath.Join(path, name)))
		default:
			found = append(found, s.newEntry(newKey(ns, d), d.Size(), &st))
		}
	}
	s.matchCopies(found, copies)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.found = append(s.found, found...)
	s.odd += odd
	return nil
}

func (s *scan) newEntry(k key, size int64, st *unix.Stat_t) scanned {
	e := newEntry(k, size)
	e.written = mtime(st)
	e.suspect = s.anySuspect && e.written >= s.suspectFrom
	return scanned{
		entry: e,
		// Readers move the time forward, though most file systems do so once a day.
		used: max(st.Atim.Nano(), e.written, s.order.used(s.disk.fingerprint(e))),
	}
}

// matchCopies keeps the executable copies that belong to a good blob.
func (s *scan) matchCopies(found []scanned, beside map[key]unix.Stat_t) {
	if len(beside) == 0 {
		return
	}
	for _, f := range found {
		st, ok := beside[f.entry.key()]
		if ok && !f.entry.suspect && ours(&st, f.entry.size, f.entry.written, execMode) {
			f.entry.kinds = executableCopy
			delete(beside, f.entry.key())
		}
	}
	for k := range beside {
		s.disk.warnIf("remove an executable copy", removeFile(s.disk.path(newEntry(k, 0))+execSuffix))
	}
}
