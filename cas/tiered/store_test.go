package tiered_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/castest"
	"github.com/hearth-build/hearth/cas/memory"
	"github.com/hearth-build/hearth/cas/tiered"
)

// exact asks the remote store each time, so that the suite's evictions show.
func exact(local tiered.Local, remote cas.Store) tiered.Options {
	return tiered.Options{Local: local, Remote: remote, RememberFor: -1}
}

func TestStore(t *testing.T) {
	castest.Test(t, func(t *testing.T) cas.Store {
		return newStore(t, exact(openDisk(t, castest.Budget), memory.New(castest.Budget)))
	})
}

func TestStoreInMemory(t *testing.T) {
	castest.Test(t, func(t *testing.T) cas.Store {
		s := newStore(t, exact(memory.New(castest.Budget), memory.New(castest.Budget)))
		return struct { // all but Link, as memory has no files
			cas.Store
			cas.Leaser
			cas.BatchPutter
			cas.BatchGetter
		}{s, s, s, s}
	})
}

// A local tier that keeps next to nothing changes nothing but the speed.
func TestStoreWithoutRoom(t *testing.T) {
	castest.Test(t, func(t *testing.T) cas.Store {
		s := newStore(t, exact(memory.New(64<<10), memory.New(castest.Budget)))
		return struct { // without leases, which it has no room for
			cas.Store
			cas.BatchPutter
			cas.BatchGetter
		}{s, s, s}
	})
}

func BenchmarkDisk(b *testing.B) {
	castest.Benchmark(b, func(b *testing.B) cas.Store { return openDisk(b, 4<<30) })
}

func BenchmarkTiered(b *testing.B) {
	castest.Benchmark(b, func(b *testing.B) cas.Store {
		return newStore(b, tiered.Options{Local: openDisk(b, 4<<30), Remote: memory.New(4 << 30)})
	})
}

// What only the remote store has is linked, and read from the local tier then.
func TestLinkFetches(t *testing.T) {
	remote, local := newFar(), openDisk(t, 1<<30)
	s := newStore(t, tiered.Options{Local: local, Remote: remote})
	dir := t.TempDir()
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for i, size := range []int{1, 1000, 100_000, 3 << 20} {
		data := random(byte(i), size)
		d := put(t, remote, data)
		for _, executable := range []bool{false, true} {
			name := fmt.Sprint(size, executable)
			if err := s.Link(t.Context(), d, int(f.Fd()), name, executable); err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != string(data) {
				t.Errorf("%s: %d bytes, %v", name, len(got), err)
			}
		}
		mustHold(t, local, d, data)
		if gets := remote.gets.Swap(0); gets != 1 {
			t.Errorf("%d bytes: %d remote reads", size, gets)
		}
	}
}

// What the local tier cannot keep is copied instead of linked.
func TestLinkOfWhatIsNotKept(t *testing.T) {
	remote := newFar()
	local := openDisk(t, 1<<20)
	s := newStore(t, tiered.Options{Local: local, Remote: remote})
	data := random(1, 2<<20)
	d := put(t, remote, data)
	if err := s.Link(t.Context(), d, -1, "x", false); !errors.Is(err, cas.ErrCannotLink) || !errors.Is(err, cas.ErrTooLarge) {
		t.Errorf("got %v, want ErrCannotLink, because of ErrTooLarge", err)
	}
	mustHold(t, s, d, data)
	if err := newStore(t, tiered.Options{Local: memory.New(0), Remote: remote}).Link(t.Context(), d, -1, "x", false); !errors.Is(err, cas.ErrCannotLink) {
		t.Errorf("got %v, want ErrCannotLink", err)
	}
}

func TestPrefetch(t *testing.T) {
	remote, local := newFar(), openDisk(t, 1<<30)
	s := newStore(t, tiered.Options{Local: local, Remote: remote})
	var ds []cas.Digest
	for i := range 500 {
		ds = append(ds, put(t, remote, fmt.Append(nil, "blob ", i)))
	}
	if err := s.Prefetch(t.Context(), append(ds, ds...)); err != nil {
		t.Fatal(err)
	}
	for _, d := range ds {
		if lacks(t, local, d) {
			t.Errorf("%v did not come", d)
		}
	}
	if gets := remote.gets.Load(); gets != 500 {
		t.Errorf("%d remote reads", gets)
	}
	absent := []cas.Digest{cas.SHA256.Sum([]byte("no")), cas.SHA256.Sum([]byte("nor this"))}
	var missing *cas.MissingError
	if err := s.Prefetch(t.Context(), append(ds, absent...)); !errors.As(err, &missing) || len(missing.Digests) != 2 {
		t.Errorf("got %v, want both that are absent", err)
	}
	remote.set(func(f *far) { f.err = cas.ErrUnavailable })
	if err := s.Prefetch(t.Context(), absent); !errors.Is(err, cas.ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
}

func TestClosed(t *testing.T) {
	remote := newFar()
	d := put(t, remote, []byte("far"))
	s := newStore(t, tiered.Options{Local: memory.New(0), Remote: remote})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(t.Context(), d, 0); err == nil || errors.Is(err, cas.ErrNotFound) {
		t.Errorf("Get: %v", err)
	}
	if _, err := cas.PutBytes(t.Context(), s, cas.SHA256, []byte("new")); err == nil {
		t.Error("Put succeeds")
	}
}

func TestOptions(t *testing.T) {
	_, err := tiered.New(tiered.Options{RememberMost: -1, WindowBytes: -1, Patience: -1})
	for _, want := range []string{"no local tier", "no remote tier", "remember", "window", "patience"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not name %q", err, want)
		}
	}
}
