package chunking_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/chunking"
	"github.com/hearth-build/hearth/cas/memory"
)

// noLeases is a Store without the ability to keep blobs.
type noLeases struct{ cas.Store }

// REAPI C30, C32: every function, every digest function.
func TestSplit(t *testing.T) {
	data := random(10, 5<<20)
	for name, c := range chunkers(t) {
		splitter := chunking.NewSplitter(c)
		for _, f := range cas.Functions() {
			store := &watched{Store: memory.New(0)}
			blob := put(t, store, f, data)
			chunks, err := splitter.Split(t.Context(), store, blob)
			if err != nil || len(chunks) < 4 || !bytes.Equal(joined(t, store.Store, chunks), data) {
				t.Errorf("%s of %v: %d chunks, %v", name, blob, len(chunks), err)
			}
			for i, d := range chunks {
				if d.Function() != f || d.Size() == 0 || d.Size() > c.MaxSize() {
					t.Errorf("%s of %v: chunk %d is %v", name, blob, i, d)
				}
			}
			again, err := splitter.Split(t.Context(), store, blob)
			if err != nil || !slices.Equal(again, chunks) || store.gets.Load() != 1 || store.open.Load() != 0 {
				t.Errorf("%s of %v: %d reads for two splits, %d not closed; %v", name, blob, store.gets.Load(), store.open.Load(), err)
			}
		}
	}
}

// REAPI C34: what is no larger than a chunk may be is one, and is not read.
func TestSplitSmall(t *testing.T) {
	for name, c := range chunkers(t) {
		splitter := chunking.NewSplitter(c)
		store := &watched{Store: memory.New(0)}
		for _, size := range []int64{1, c.MaxSize()} {
			blob := put(t, store, cas.SHA256, random(11, int(size)))
			chunks, err := splitter.Split(t.Context(), store, blob)
			if err != nil || !slices.Equal(chunks, []cas.Digest{blob}) {
				t.Errorf("%s, %d bytes: %v, %v", name, size, chunks, err)
			}
		}
		if chunks, err := splitter.Split(t.Context(), store, cas.SHA256.Empty()); err != nil || len(chunks) != 0 {
			t.Errorf("%s, the empty blob: %v, %v", name, chunks, err)
		}
		if store.gets.Load() != 0 {
			t.Errorf("%s: small blobs were read", name)
		}
		blob := put(t, store, cas.SHA256, random(11, int(c.MaxSize()+1)))
		if chunks, err := splitter.Split(t.Context(), store, blob); err != nil || len(chunks) < 2 {
			t.Errorf("%s, one byte more than a chunk: %v, %v", name, chunks, err)
		}
	}
}

// REAPI C30: absent, gone meanwhile, or chunks gone.
func TestSplitOfWhatIsMissing(t *testing.T) {
	splitter := chunking.NewSplitter(chunkers(t)["FastCDC"])
	store := &watched{Store: memory.New(0), lost: make(map[cas.Digest]bool), damaged: make(map[cas.Digest]bool)}
	data := random(12, 5<<20)
	for _, absent := range []cas.Digest{cas.SHA256.Sum(data), cas.SHA256.Sum([]byte("small"))} {
		var missing *cas.MissingError
		if _, err := splitter.Split(t.Context(), store, absent); !errors.As(err, &missing) || !slices.Equal(missing.Digests, []cas.Digest{absent}) {
			t.Errorf("absent: got %v", err)
		}
	}
	blob := put(t, store, cas.SHA256, data)

	store.damaged[blob] = true
	if _, err := splitter.Split(t.Context(), store, blob); !errors.Is(err, cas.ErrNotFound) || errors.Is(err, cas.ErrMismatch) {
		t.Errorf("damaged in the store: got %v, want ErrNotFound", err)
	}
	store.damaged[blob] = false
	chunks, err := splitter.Split(t.Context(), store, blob)
	if err != nil || !bytes.Equal(joined(t, store.Store, chunks), data) {
		t.Errorf("healed: %v", err)
	}

	store.lost[chunks[1]] = true
	again, err := splitter.Split(t.Context(), store, blob)
	if err != nil || !slices.Equal(again, chunks) || !present(t, store, chunks...) {
		t.Errorf("a chunk was lost: %v", err)
	}
	store.lost[blob] = true
	if _, err := splitter.Split(t.Context(), store, blob); !errors.Is(err, cas.ErrNotFound) {
		t.Errorf("evicted, chunks are left: got %v, want ErrNotFound", err)
	}
	if store.open.Load() != 0 {
		t.Errorf("%d readers are open", store.open.Load())
	}
}

// REAPI C30: no room for the chunks beside the blob.
func TestSplitWithoutRoom(t *testing.T) {
	data := random(13, 8<<20)
	for name, c := range chunkers(t) {
		leasing := memory.New(12 << 20)
		for kind, store := range map[string]cas.Store{"with leases": leasing, "without": noLeases{memory.New(12 << 20)}} {
			blob := put(t, store, cas.SHA256, data)
			if _, err := chunking.NewSplitter(c).Split(t.Context(), store, blob); !errors.Is(err, cas.ErrNoSpace) {
				t.Errorf("%s, %s: got %v, want ErrNoSpace", name, kind, err)
			}
		}
		// The leases have ended: there is room for other blobs.
		put(t, leasing, cas.SHA256, random(14, 12<<20))
	}
}

// REAPI C31: blob and chunks outlive what was used before them.
func TestSplitExtendsLifetimes(t *testing.T) {
	for name, c := range chunkers(t) {
		store := memory.New(18 << 20)
		splitter := chunking.NewSplitter(c)
		blob := put(t, store, cas.SHA256, random(15, 6<<20))
		var chunks, others []cas.Digest
		for round := range byte(10) {
			var err error
			if chunks, err = splitter.Split(t.Context(), store, blob); err != nil {
				t.Fatalf("%s, round %d: %v", name, round, err)
			}
			others = append(others, put(t, store, cas.SHA256, random(20+round, 4<<20)))
		}
		if !present(t, store, append(chunks, blob)...) {
			t.Errorf("%s: the blob or a chunk is gone", name)
		}
		for i, other := range others[:9] {
			if present(t, store, other) {
				t.Errorf("%s: what was stored before split %d outlived the last one", name, i+1)
			}
		}
	}
}

// Many ask for one blob at once: it is read once.
func TestSplitTogether(t *testing.T) {
	splitter := chunking.NewSplitter(chunkers(t)["FastCDC"])
	store := &watched{Store: memory.New(0)}
	data := random(16, 5<<20)
	blob := put(t, store, cas.SHA256, data)
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			if chunks, err := splitter.Split(t.Context(), store, blob); err != nil || !bytes.Equal(joined(t, store.Store, chunks), data) {
				t.Errorf("%d chunks, %v", len(chunks), err)
			}
		})
	}
	all.Wait()
	if n := store.gets.Load(); n != 1 {
		t.Errorf("the blob was read %d times", n)
	}
}

// Splits are few at a time, and who waits for one can give up.
func TestSplitWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		splitter := chunking.NewSplitter(chunkers(t)["FastCDC"])
		proceed := make(chan struct{})
		store := &watched{Store: memory.New(0), onGet: func(cas.Digest) { <-proceed }}
		var blobs []cas.Digest
		for i := range byte(6) {
			blobs = append(blobs, put(t, store, cas.SHA256, random(60+i, 3<<20)))
		}
		var all sync.WaitGroup
		for _, blob := range blobs {
			all.Go(func() {
				if _, err := splitter.Split(t.Context(), store, blob); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		if n := store.gets.Load(); n != 4 {
			t.Errorf("%d splits run at a time, want 4", n)
		}
		impatient := errors.New("the client hung up")
		late := put(t, store, cas.SHA256, random(70, 3<<20))
		for name, blob := range map[string]cas.Digest{"the same blob": blobs[0], "another": late} {
			ctx, cancel := context.WithCancelCause(t.Context())
			all.Go(func() {
				if _, err := splitter.Split(ctx, store, blob); !errors.Is(err, impatient) {
					t.Errorf("%s: got %v, want %v", name, err, impatient)
				}
			})
			synctest.Wait()
			cancel(impatient)
		}
		synctest.Wait()
		close(proceed)
		all.Wait()
		if _, err := splitter.Split(t.Context(), store, late); err != nil {
			t.Errorf("after one has given up: %v", err)
		}
	})
}

func BenchmarkSplit(b *testing.B) {
	data := random(1, 64<<20)
	for name, c := range chunkers(b) {
		store := memory.New(0)
		blob, err := cas.PutBytes(b.Context(), store, cas.SHA256, data)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name+"/64MiB", func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := chunking.NewSplitter(c).Split(b.Context(), store, blob); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
