package tiered_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/memory"
	"github.com/hearth-build/hearth/cas/tiered"
)

// However many want a blob, it is read once.
func TestOneFetch(t *testing.T) {
	for _, size := range []int{1, 1000, 100_000, 2 << 20, 16 << 20} {
		remote := newFar()
		data := random(1, size)
		d := put(t, remote, data)
		gate := make(chan struct{})
		remote.set(func(f *far) {
			f.filter = func(_ context.Context, r io.Reader) io.Reader {
				return io.MultiReader(readerFunc(func([]byte) (int, error) { <-gate; return 0, io.EOF }), r)
			}
		})
		local := openDisk(t, 1<<30)
		s := newStore(t, tiered.Options{Local: local, Remote: remote})
		var group errgroup.Group
		var ready atomic.Int64
		for i := range 32 {
			group.Go(func() error {
				offset := int64(i%2) * d.Size() / 2
				r, err := s.Get(t.Context(), d, offset)
				if ready.Add(1) == 32 {
					close(gate)
				}
				if err != nil {
					return err
				}
				defer r.Close()
				got := sha256.New() // 32 copies would take half a GiB
				_, err = io.Copy(got, r)
				if want := sha256.Sum256(data[offset:]); err == nil && !bytes.Equal(got.Sum(nil), want[:]) {
					err = errors.New("other bytes came")
				}
				return err
			})
		}
		if err := group.Wait(); err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		if gets := remote.gets.Load(); gets != 1 {
			t.Errorf("%d bytes: %d remote reads", size, gets)
		}
		mustHold(t, local, d, data)
	}
}

// A reader has the bytes that came, and the last one when all are proven.
func TestReadsWhileItComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 10 << 20
		data := random(2, size)
		remote := newFar()
		d := put(t, remote, data)
		remote.set(func(f *far) { // a MiB in a second
			f.filter = func(_ context.Context, r io.Reader) io.Reader {
				return readerFunc(func(p []byte) (int, error) {
					time.Sleep(time.Second)
					return r.Read(p[:min(len(p), 1<<20)])
				})
			}
		})
		s := newStore(t, tiered.Options{Local: memory.New(0), Remote: remote})
		began := time.Now()
		r, err := s.Get(t.Context(), d, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		first := make([]byte, 1<<20)
		if _, err := io.ReadFull(r, first); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("the first MiB took %v", took)
		}
		rest, err := io.ReadAll(r)
		if err != nil || !bytes.Equal(append(first, rest...), data) {
			t.Errorf("%d bytes, %v", len(rest), err)
		}
	})
}

// REAPI 0.1, C20: wrong bytes of the remote store are neither passed on as whole
// nor kept.
func TestWrongBytes(t *testing.T) {
	for name, spoil := range map[string]func(r io.Reader) io.Reader{
		"flipped": func(r io.Reader) io.Reader {
			return readerFunc(func(p []byte) (int, error) {
				n, err := r.Read(p)
				if n > 0 {
					p[n-1] ^= 1
				}
				return n, err
			})
		},
		"short":  func(r io.Reader) io.Reader { return io.LimitReader(r, 900) },
		"long":   func(r io.Reader) io.Reader { return io.MultiReader(r, bytes.NewReader([]byte("more"))) },
		"broken": func(r io.Reader) io.Reader { return io.MultiReader(io.LimitReader(r, 900), broken()) },
	} {
		for _, size := range []int{1000, 3 << 20} {
			remote, local := newFar(), memory.New(0)
			d := put(t, remote, random(3, size))
			remote.set(func(f *far) { f.filter = func(_ context.Context, r io.Reader) io.Reader { return spoil(r) } })
			s := newStore(t, tiered.Options{Local: local, Remote: remote})
			if _, err := cas.ReadAll(t.Context(), s, d, d.Size()); !errors.Is(err, cas.ErrUnavailable) || errors.Is(err, cas.ErrMismatch) {
				t.Errorf("%s, %d bytes: got %v, want ErrUnavailable", name, size, err)
			}
			if !lacks(t, local, d) {
				t.Errorf("%s, %d bytes: they are kept", name, size)
			}
			remote.set(func(f *far) { f.filter = nil })
			mustHold(t, s, d, random(3, size))
		}
	}
}

func broken() io.Reader {
	return readerFunc(func([]byte) (int, error) { return 0, cas.ErrUnavailable })
}

// A caller that gives up, also the first, fails nobody else; when all have, the
// fetch ends.
func TestCancelledCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 8 << 20
		data := random(4, size)
		remote := newFar()
		d := put(t, remote, data)
		var ended atomic.Int64
		remote.set(func(f *far) {
			f.filter = func(ctx context.Context, r io.Reader) io.Reader {
				return readerFunc(func(p []byte) (int, error) {
					select {
					case <-time.After(time.Second):
					case <-ctx.Done():
						ended.Add(1)
						return 0, context.Cause(ctx)
					}
					return r.Read(p[:min(len(p), 1<<20)])
				})
			}
		})
		s := newStore(t, tiered.Options{Local: memory.New(0), Remote: remote})
		why := errors.New("the client went away")
		read := func(stopAfter time.Duration) error {
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			if stopAfter > 0 {
				defer time.AfterFunc(stopAfter, func() { cancel(why) }).Stop()
			}
			got, err := cas.ReadAll(ctx, s, d, size)
			if err == nil && !bytes.Equal(got, data) {
				err = errors.New("other bytes came")
			}
			return err
		}
		var group errgroup.Group
		for i := range 16 {
			stopAfter := time.Duration(i%2) * (2*time.Second + time.Duration(i)*time.Millisecond)
			group.Go(func() error {
				if err := read(stopAfter); (err == nil) != (stopAfter == 0) || err != nil && !errors.Is(err, why) {
					return err
				}
				return nil
			})
			synctest.Wait() // so the first is one that stays; the next round begins with one that goes
		}
		if err := group.Wait(); err != nil {
			t.Error(err)
		}
		if gets := remote.gets.Load(); gets != 1 || ended.Load() != 0 {
			t.Errorf("%d reads, %d of them ended early", gets, ended.Load())
		}

		s = newStore(t, tiered.Options{Local: memory.New(0), Remote: remote})
		for i := range 8 { // all go
			group.Go(func() error {
				if err := read(time.Second + time.Duration(i)*time.Millisecond); !errors.Is(err, why) {
					return err
				}
				return nil
			})
		}
		if err := group.Wait(); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if ended.Load() != 1 {
			t.Errorf("%d reads ended early, want the one that nobody waits for", ended.Load())
		}
		if err := read(0); err != nil {
			t.Errorf("a caller after that: %v", err)
		}
	})
}

// A reader that does not read holds up the others for a bounded time, and has the
// blob in the end.
func TestSlowReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 16 << 20
		data := random(5, size)
		remote := newFar()
		d := put(t, remote, data)
		s := newStore(t, tiered.Options{Local: memory.New(0), Remote: remote, Patience: 3 * time.Second})
		slow, err := s.Get(t.Context(), d, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer slow.Close()
		began := time.Now()
		mustHold(t, s, d, data)
		if took := time.Since(began); took < time.Second || took > 4*time.Second {
			t.Errorf("the others took %v", took)
		}
		if got, err := io.ReadAll(slow); err != nil || !bytes.Equal(got, data) {
			t.Errorf("the slow one has %d bytes, %v", len(got), err)
		}
		if gets := remote.gets.Load(); gets != 1 {
			t.Errorf("%d remote reads", gets)
		}
	})
}

// A local tier that fails, at once or half-way, does not fail a read.
func TestLocalTierFails(t *testing.T) {
	full := errors.New("input/output error")
	for name, fail := range map[string]func(c *cas.Content) error{
		"at once": func(*cas.Content) error { return full },
		"half-way": func(c *cas.Content) error {
			if _, err := io.CopyN(io.Discard, c, c.Digest().Size()/2); err != nil {
				return err
			}
			return full
		},
		"at the end": func(c *cas.Content) error {
			if _, err := io.Copy(io.Discard, c); err != nil {
				return err
			}
			return full
		},
	} {
		for _, size := range []int{1000, 5 << 20} {
			remote := newFar()
			local := &near{Local: memory.New(0), put: fail}
			s := newStore(t, tiered.Options{Local: local, Remote: remote})
			data := random(6, size)
			d := put(t, remote, data)
			var group errgroup.Group
			for range 8 {
				group.Go(func() error {
					got, err := cas.ReadAll(t.Context(), s, d, d.Size())
					if err == nil && !bytes.Equal(got, data) {
						err = errors.New("other bytes came")
					}
					return err
				})
			}
			if err := group.Wait(); err != nil {
				t.Errorf("%s, %d bytes: %v", name, size, err)
			}
		}
	}
}

// zeros is a remote store with a blob that takes no memory.
type zeros struct{ *far }

func (z zeros) Get(_ context.Context, d cas.Digest, offset int64) (io.ReadCloser, error) {
	return io.NopCloser(io.LimitReader(readerFunc(func(p []byte) (int, error) {
		clear(p)
		return len(p), nil
	}), d.Size()-offset)), nil
}

// sink is a local tier that reads what it is given and keeps nothing of it.
func sink(c *cas.Content) error {
	_, err := io.CopyBuffer(io.Discard, struct{ io.Reader }{c}, make([]byte, 256<<10))
	return err
}

func TestMemoryIsBounded(t *testing.T) {
	const size = 256 << 20
	h := cas.MD5.New(size)
	chunk := make([]byte, 1<<20)
	for range size / len(chunk) {
		h.Write(chunk)
	}
	d := digestOf(t, h.Sum(nil), size)
	local := &near{Local: memory.New(0), put: sink}
	s := newStore(t, tiered.Options{Local: local, Remote: zeros{newFar()}})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	r, err := s.Get(t.Context(), d, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for read, buf := int64(0), make([]byte, 1<<20); read < size-1; {
		n, err := r.Read(buf)
		if err != nil {
			t.Fatalf("after %d bytes: %v", read, err)
		}
		read += int64(n)
	}
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapSys) - int64(before.HeapSys); grown > 32<<20 {
		t.Errorf("the heap grew by %d MiB", grown>>20)
	}
}
