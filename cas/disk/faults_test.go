package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/hearth-build/hearth/cas"
)

// flaky makes one in so many operations fail, from a seed.
type flaky struct {
	mu     sync.Mutex // guards all below
	random *rand.Rand
	one    int // 0: none
	failed int
}

func (f *flaky) fail() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.one == 0 || f.random.IntN(f.one) > 0 {
		return nil
	}
	f.failed++
	return []error{unix.EIO, unix.EIO, unix.ENOSPC, unix.EMFILE}[f.random.IntN(4)]
}

func (f *flaky) set(one int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.one = one
}

// maybe makes the key-value side's operations fail. Of those that have nothing
// to do with the content of files errors are not expected.
func (f *flaky) maybe(op errorfs.Op) error {
	switch op.Kind {
	case errorfs.OpFileClose, errorfs.OpFileStat, errorfs.OpStat, errorfs.OpList, errorfs.OpLock, errorfs.OpGetDiskUsage:
		return nil
	}
	return f.fail()
}

// With disks that fail now and then no wrong byte is served, a blob that is said
// to be there can be had or is dropped, and all works again afterwards.
func TestNoWrongByteFromAFailingDisk(t *testing.T) {
	const seed, users, rounds = 7, 4, 1000
	f := &flaky{random: rand.New(rand.NewPCG(seed, 0))}
	dir := t.TempDir()
	d := open(t, Options{
		Dir: dir, ScrubRate: -1, MaxBytes: 4 << 20,
		faults:  func(string) error { return f.fail() },
		valueFS: errorfs.Wrap(vfs.Default, errorfs.InjectorFunc(f.maybe)),
	})
	var blobs [][]byte
	for i := range uint64(80) {
		blobs = append(blobs, random(i, int(1+i*i*31)))
	}
	links, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer links.Close()
	f.set(15)
	var g errgroup.Group
	for user := range users {
		r := rand.New(rand.NewPCG(seed, uint64(user)))
		g.Go(func() error {
			for i := range rounds {
				s := flakyStep{store: d.Namespace(""), blob: blobs[r.IntN(len(blobs))], links: links, name: fmt.Sprintf("%d-%d", user, i)}
				if err := s.run(t.Context(), r.IntN(50)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Errorf("seed %d: %v", seed, err)
	}
	f.set(0)
	for _, data := range blobs {
		putSoon(t, d.Namespace(""), data)
		mustHold(t, d.Namespace(""), data)
	}
	mustClose(t, d)
	if f.failed < 100 {
		t.Errorf("only %d operations failed", f.failed)
	}
	r, err := Verify(t.Context(), Options{Dir: dir})
	if err != nil {
		t.Error(err)
	}
	t.Logf("%d operations failed; of %d blobs %d were damaged", f.failed, r.Checked, len(r.Dropped))
}

// flakyStep is one use of a store whose disk may fail.
type flakyStep struct {
	store *Store
	blob  []byte
	links *os.File
	name  string
}

// run fails if what it gets is wrong; that it gets nothing is all right.
func (s flakyStep) run(ctx context.Context, what int) error {
	d := cas.SHA256.Sum(s.blob)
	var got []byte
	var err error
	switch what % 5 {
	case 0, 1:
		if what == 0 {
			_ = s.store.disk.sync(ctx, false) // so that values get into files
		}
		_ = s.store.Put(ctx, cas.Checked(d, s.blob)) // may fail
		return nil
	case 2:
		got, err = cas.ReadAll(ctx, s.store, d, d.Size())
	case 3:
		data, errs := s.store.GetAll(ctx, []cas.Digest{d})
		got, err = data[0], errs[0]
	case 4:
		if err = s.store.Link(ctx, d, int(s.links.Fd()), s.name, len(s.name)%2 == 0); err == nil {
			got, err = os.ReadFile(s.links.Name() + "/" + s.name)
		}
	}
	if err == nil && !bytes.Equal(got, s.blob) {
		return fmt.Errorf("step %s: wrong bytes for %v", s.name, d)
	}
	return nil
}

// putSoon stores a blob once the writes that wait have seen that they can go on.
func putSoon(t *testing.T, s *Store, data []byte) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		_, err := cas.PutBytes(t.Context(), s, cas.SHA256, data)
		switch {
		case err == nil:
			return
		case time.Now().After(deadline) || !errors.Is(err, cas.ErrNoSpace) && !errors.Is(err, unix.EIO) && !errors.Is(err, unix.EMFILE):
			t.Fatal(err)
		}
		_, _, _, change := s.disk.index.queueState()
		select {
		case <-change:
		case <-time.After(time.Millisecond):
		}
	}
}

// Reads go on while the key-value side cannot write; new blobs are refused at
// once, and taken as soon as it can.
func TestFullKeyValueSide(t *testing.T) {
	var mu sync.Mutex
	full := false
	set := func(to bool) {
		mu.Lock()
		defer mu.Unlock()
		full = to
	}
	d := open(t, Options{valueFS: errorfs.Wrap(vfs.Default, errorfs.InjectorFunc(func(op errorfs.Op) error {
		mu.Lock()
		defer mu.Unlock()
		if full && op.Kind == errorfs.OpFileWrite {
			return unix.ENOSPC
		}
		return nil
	}))})
	s := d.Namespace("")
	before := random(1, 1000)
	put(t, s, before)
	if err := d.sync(t.Context(), false); err != nil { // nothing is being written after it
		t.Fatal(err)
	}
	set(true)
	var err error
	refused := uint64(2)
	for ; err == nil && refused < 100_000; refused++ {
		_, err = cas.PutBytes(t.Context(), s, cas.SHA256, random(refused, 1000))
	}
	refused--
	if !errors.Is(err, cas.ErrNoSpace) {
		t.Fatalf("with the disk full: %v, want ErrNoSpace", err)
	}
	mustHold(t, s, before)
	put(t, s, before) // which is there
	if err := d.sync(t.Context(), false); !errors.Is(err, cas.ErrNoSpace) {
		t.Errorf("a sync point with the disk full: %v, want ErrNoSpace", err)
	}
	set(false)
	putSoon(t, s, random(2, 1001))
	mustHold(t, s, random(2, 1001))
	mustHold(t, s, before)
	if refused == 2 {
		t.Error("nothing was taken before the first write failed")
	}
	for i := uint64(2); i < refused; i++ {
		mustHold(t, s, random(i, 1000)) // taken before, and written since
	}
}
