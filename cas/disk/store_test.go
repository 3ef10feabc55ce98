package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/castest"
)

// open opens a store that is closed, without an error, when the test ends.
func open(t testing.TB, options Options) *Disk {
	t.Helper()
	if options.Dir == "" {
		options.Dir = t.TempDir()
	}
	d, err := Open(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mustClose(t, d) })
	return d
}

// filePath is where the file of a blob is that is one.
func (s *Store) filePath(d cas.Digest) string { return s.disk.layout.blob(s.dir, d) }

func mustClose(t testing.TB, d *Disk) {
	t.Helper()
	if err := d.Close(); err != nil {
		t.Errorf("close the store: %v", err)
	}
}

// random returns n bytes that are the same in each run.
func random(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 0))
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(r.Uint32())
	}
	return data
}

func put(t testing.TB, s cas.Putter, data []byte) cas.Digest {
	t.Helper()
	d, err := cas.PutBytes(t.Context(), s, cas.SHA256, data)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func mustHold(t testing.TB, s cas.Store, data []byte) {
	t.Helper()
	d := cas.SHA256.Sum(data)
	got, err := cas.ReadAll(t.Context(), s, d, d.Size())
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("%v: read %d bytes, %v", d, len(got), err)
	}
	if missing, err := s.FindMissing(t.Context(), []cas.Digest{d}); err != nil || len(missing) != 0 {
		t.Errorf("%v: FindMissing gave %v, %v", d, missing, err)
	}
}

func mustLack(t testing.TB, s cas.Store, d cas.Digest) {
	t.Helper()
	if got, err := cas.ReadAll(t.Context(), s, d, d.Size()); !errors.Is(err, cas.ErrNotFound) {
		t.Errorf("%v: read %d bytes, %v, want ErrNotFound", d, len(got), err)
	}
	if missing, err := s.FindMissing(t.Context(), []cas.Digest{d}); err != nil || len(missing) != 1 {
		t.Errorf("%v: FindMissing gave %v, %v, want it missing", d, missing, err)
	}
}

// REAPI D36: one of the suite's tests evicts what is being read.
func TestStore(t *testing.T) {
	castest.Test(t, func(t *testing.T) cas.Store {
		return open(t, Options{MaxBytes: castest.Budget}).Namespace("main")
	})
}

func TestStoreOfFiles(t *testing.T) {
	castest.Test(t, func(t *testing.T) cas.Store {
		return open(t, Options{MaxBytes: castest.Budget, split: 1}).Namespace("main")
	})
}

// File systems without O_TMPFILE get named files that are renamed.
func TestStoreWithNamedFiles(t *testing.T) {
	castest.Test(t, func(t *testing.T) cas.Store {
		d := open(t, Options{MaxBytes: castest.Budget, split: 1})
		d.files.anonymous = false
		t.Cleanup(func() { mustHaveNoTemporaryFile(t, d) })
		return d.Namespace("main")
	})
}

func mustHaveNoTemporaryFile(t testing.TB, d *Disk) {
	t.Helper()
	if left, err := os.ReadDir(d.layout.tmp()); err != nil || len(left) != 0 {
		t.Errorf("in tmp: %v, %v", left, err)
	}
}

func BenchmarkStore(b *testing.B) {
	castest.Benchmark(b, func(b *testing.B) cas.Store {
		return open(b, Options{MaxBytes: 4 << 30}).Namespace("main")
	})
}

// REAPI A27.
func TestNamespacesAreApart(t *testing.T) {
	dir := t.TempDir()
	d := open(t, Options{Dir: dir})
	names := []string{"", "main", "a/b", "a", "..", "/", "a%2Fb", strings.Repeat("long/", 100), "\x00\n"}
	for i, name := range names {
		s := d.Namespace(name)
		data := fmt.Appendf(nil, "blob of %d", i)
		put(t, s, data)
		for _, other := range names {
			if other != name {
				mustLack(t, d.Namespace(other), cas.SHA256.Sum(data))
			}
		}
	}
	mustClose(t, d)
	d = open(t, Options{Dir: dir})
	for i, name := range names {
		mustHold(t, d.Namespace(name), fmt.Appendf(nil, "blob of %d", i))
	}
	above, err := os.ReadDir(filepath.Dir(d.layout.blobs()))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range above {
		if !slices.Contains([]string{"FORMAT", "LOCK", "ORDER", "STATE", "cas", "kv", "links", "old", "tmp"}, e.Name()) {
			t.Errorf("a namespace lies beside the others: %v", e)
		}
	}
}

// REAPI C42: a blob that many clients bring at once is written once.
func TestConcurrentPutWritesOnce(t *testing.T) {
	s := open(t, Options{}).Namespace("")
	data := random(1, 4<<20)
	var read atomic.Int64
	var g errgroup.Group
	for range 32 {
		g.Go(func() error {
			return s.Put(t.Context(), cas.NewContent(cas.SHA256.Sum(data), counting{bytes.NewReader(data), &read}))
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	if read.Load() != int64(len(data)) {
		t.Errorf("%d bytes were read for a blob of %d", read.Load(), len(data))
	}
	mustHold(t, s, data)
}

type counting struct {
	r io.Reader
	n *atomic.Int64
}

func (c counting) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// An umask that hides files from others must not hide them from actions.
func TestModesDoNotDependOnTheUmask(t *testing.T) {
	d := open(t, Options{split: 1})
	d.files.chmod = true // what newFiles finds under such an umask
	s := d.Namespace("")
	data := []byte("for all to read")
	st, err := os.Stat(s.filePath(put(t, s, data)))
	if err != nil || st.Mode().Perm() != blobMode {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
}

func TestClosedStore(t *testing.T) {
	d := open(t, Options{})
	s := d.Namespace("")
	kept := random(1, 1<<20)
	put(t, s, kept)
	r, err := s.Get(t.Context(), cas.SHA256.Sum(kept), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	// An upload whose client says nothing does not hold Close up, and stores
	// nothing afterwards.
	late := random(2, 1<<20)
	begun, closed, result := make(chan struct{}), make(chan struct{}), make(chan error)
	go func() {
		result <- s.Put(t.Context(), cas.NewContent(cas.SHA256.Sum(late), io.MultiReader(
			bytes.NewReader(late[:1000]),
			readerFunc(func([]byte) (int, error) { close(begun); <-closed; return 0, io.EOF }),
			bytes.NewReader(late[1000:]))))
	}()
	<-begun
	mustClose(t, d)
	mustClose(t, d) // again is no error
	close(closed)
	if err := <-result; !errors.Is(err, errClosed) {
		t.Errorf("Put that outlived the store: %v", err)
	}
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, kept) {
		t.Errorf("reader that outlived the store: %d bytes, %v", len(got), err)
	}
	d = open(t, Options{Dir: d.layout.dir})
	mustHold(t, d.Namespace(""), kept)
	mustLack(t, d.Namespace(""), cas.SHA256.Sum(late))
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestNothingLeaks(t *testing.T) {
	fds, goroutines := openFDs(t), runtime.NumGoroutine()
	d := open(t, Options{MaxBytes: 8 << 20})
	s := d.Namespace("")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for i := range uint64(40) {
		data := random(i, 500_000)
		digest := put(t, s, data)
		mustHold(t, s, data)
		_ = s.Put(ctx, cas.Checked(cas.SHA256.Sum(data[1:]), data)) // wrong, or cancelled
		if r, err := s.Get(t.Context(), digest, 10); err == nil {
			r.Close()
		}
		if i == 20 {
			cancel()
		}
	}
	if got := d.Stats(); got.Reserved != 0 || got.Pinned != 0 || d.space.pending.Load() != 0 || got.Bytes > 8<<20 {
		t.Errorf("after all is done: %+v, %d bytes pending", got, d.space.pending.Load())
	}
	if n := len(d.index.flights); n != 0 {
		t.Errorf("%d flights are left", n)
	}
	mustHaveNoTemporaryFile(t, d)
	mustClose(t, d)
	deadline := time.Now().Add(10 * time.Second)
	for openFDs(t) > fds || runtime.NumGoroutine() > goroutines {
		if time.Now().After(deadline) {
			t.Fatalf("%d descriptors and %d goroutines, there were %d and %d", openFDs(t), runtime.NumGoroutine(), fds, goroutines)
		}
		runtime.Gosched()
	}
}

func openFDs(t *testing.T) int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(fds)
}
