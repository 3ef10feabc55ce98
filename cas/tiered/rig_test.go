package tiered_test

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/disk"
	"github.com/hearth-build/hearth/cas/memory"
	"github.com/hearth-build/hearth/cas/tiered"
)

// far is a remote store whose behaviour a test may change.
type far struct {
	*memory.Store
	gets, puts, finds atomic.Int64

	mu     sync.Mutex                                       // guards all below
	err    error                                            // of every call
	filter func(ctx context.Context, r io.Reader) io.Reader // what happens to bytes that are read
	lost   map[cas.Digest]bool
}

func newFar() *far { return &far{Store: memory.New(0), lost: map[cas.Digest]bool{}} }

func (f *far) set(change func(f *far)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

// state is what a call about a blob meets.
func (f *far) state(d cas.Digest) (lost bool, filter func(context.Context, io.Reader) io.Reader, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.lost[d], f.filter, f.err
}

func (f *far) Get(ctx context.Context, d cas.Digest, offset int64) (io.ReadCloser, error) {
	f.gets.Add(1)
	lost, filter, err := f.state(d)
	if err == nil && lost {
		err = &cas.MissingError{Digests: []cas.Digest{d}}
	}
	if err != nil {
		return nil, err
	}
	r, err := f.Store.Get(ctx, d, offset)
	if err != nil || filter == nil {
		return r, err
	}
	return io.NopCloser(filter(ctx, r)), nil
}

func (f *far) Put(ctx context.Context, c *cas.Content) error {
	f.puts.Add(1)
	if _, _, err := f.state(c.Digest()); err != nil {
		return err
	}
	if err := f.Store.Put(ctx, c); err != nil {
		return err
	}
	f.set(func(f *far) { delete(f.lost, c.Digest()) })
	return nil
}

func (f *far) FindMissing(ctx context.Context, ds []cas.Digest) ([]cas.Digest, error) {
	f.finds.Add(1)
	if _, _, err := f.state(cas.Digest{}); err != nil {
		return nil, err
	}
	missing, err := f.Store.FindMissing(ctx, ds)
	for _, d := range ds {
		if lost, _, _ := f.state(d); lost {
			missing = append(missing, d)
		}
	}
	return missing, err
}

// lose makes the remote store forget blobs.
func (f *far) lose(ds ...cas.Digest) {
	f.set(func(f *far) {
		for _, d := range ds {
			f.lost[d] = true
		}
	})
}

// near is a local tier that can be made to fail.
type near struct {
	tiered.Local
	mu  sync.Mutex
	put func(c *cas.Content) error // in place of Put, if there is one
}

func (n *near) Put(ctx context.Context, c *cas.Content) error {
	n.mu.Lock()
	put := n.put
	n.mu.Unlock()
	if put != nil {
		return put(c)
	}
	return n.Local.Put(ctx, c)
}

func newStore(t testing.TB, o tiered.Options) *tiered.Store {
	t.Helper()
	s, err := tiered.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func openDisk(t testing.TB, maxBytes int64) *disk.Store {
	t.Helper()
	d, err := disk.Open(t.Context(), disk.Options{Dir: t.TempDir(), MaxBytes: maxBytes, MinFreeBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d.Namespace("main")
}

// random returns n bytes that are the same in each run.
func random(seed byte, n int) []byte {
	data := make([]byte, n)
	if _, err := rand.NewChaCha8([32]byte{seed}).Read(data); err != nil {
		panic(err) // documented never to happen
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

func mustHold(t testing.TB, s cas.Getter, d cas.Digest, want []byte) {
	t.Helper()
	if got, err := cas.ReadAll(t.Context(), s, d, d.Size()); err != nil || !bytes.Equal(got, want) {
		t.Errorf("read %v: %d bytes, %v", d, len(got), err)
	}
}

func lacks(t testing.TB, s cas.Finder, d cas.Digest) bool {
	t.Helper()
	missing, err := s.FindMissing(t.Context(), []cas.Digest{d})
	if err != nil {
		t.Fatal(err)
	}
	return len(missing) > 0
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
