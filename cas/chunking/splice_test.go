package chunking_test

import (
	"bytes"
	"context"
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/chunking"
	"github.com/hearth-build/hearth/cas/memory"
)

// REAPI C35, C37, C38: with repeated and empty chunks, and one that is all.
func TestSplice(t *testing.T) {
	a, b := random(80, 100<<10), random(81, 1)
	for _, f := range cas.Functions() {
		for name, parts := range map[string][][]byte{
			"one":       {a},
			"two":       {a, b},
			"repeated":  {b, a, b, b, a, b},
			"empty too": {{}, a, {}, {}, b, {}},
			"nothing":   {},
			"all empty": {{}, {}},
		} {
			store := &watched{Store: memory.New(0)}
			var chunks []cas.Digest
			for _, part := range parts {
				chunks = append(chunks, put(t, store, f, part))
			}
			whole := slices.Concat(parts...)
			blob := f.Sum(whole)
			if err := chunking.Splice(t.Context(), store, blob, chunks); err != nil {
				t.Errorf("%v, %s: %v", f, name, err)
				continue
			}
			if got := joined(t, store, []cas.Digest{blob}); !bytes.Equal(got, whole) || store.open.Load() != 0 {
				t.Errorf("%v, %s: %d bytes, want %d; %d readers are open", f, name, len(got), len(whole), store.open.Load())
			}
		}
	}
}

// REAPI C35, C38: what is refused for its sizes, before anything is read.
func TestSpliceChecksSizesFirst(t *testing.T) {
	store := &watched{Store: memory.New(1 << 20)}
	big := put(t, store, cas.SHA256, make([]byte, 1<<19))
	one := put(t, store, cas.SHA256, []byte("1"))
	sized := func(size int64) cas.Digest {
		d, err := cas.ParseDigest(cas.SHA256, one.Hash(), size)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	for name, tc := range map[string]struct {
		blob   cas.Digest
		chunks []cas.Digest
		want   error
	}{
		"no chunks":        {sized(3), nil, cas.ErrMismatch},
		"too few":          {sized(3), []cas.Digest{one, one}, cas.ErrMismatch},
		"too many":         {sized(3), []cas.Digest{one, one, one, one}, cas.ErrMismatch},
		"for nothing":      {cas.SHA256.Empty(), []cas.Digest{one}, cas.ErrMismatch},
		"overflow":         {sized(3), []cas.Digest{sized(math.MaxInt64), sized(math.MaxInt64), sized(5)}, cas.ErrMismatch},
		"over the store's": {sized(100_000 << 19), slices.Repeat([]cas.Digest{big}, 100_000), cas.ErrTooLarge},
	} {
		if err := chunking.Splice(t.Context(), store, tc.blob, tc.chunks); !errors.Is(err, tc.want) {
			t.Errorf("%s: got %v, want %v", name, err, tc.want)
		}
	}
	if n := store.gets.Load(); n != 0 {
		t.Errorf("%d chunks were opened", n)
	}
}

// REAPI C35: nothing is created.
func TestSpliceFails(t *testing.T) {
	store := &watched{Store: memory.New(0), lost: make(map[cas.Digest]bool)}
	a, b, gone := put(t, store, cas.SHA256, []byte("aaa")), put(t, store, cas.SHA256, []byte("bbb")), cas.SHA256.Sum([]byte("ccc"))
	blob := cas.SHA256.Sum([]byte("aaabbbccc"))
	vanishing := put(t, store, cas.SHA256, []byte("ddd"))
	withVanishing := cas.SHA256.Sum([]byte("aaaddd"))
	store.onGet = func(d cas.Digest) {
		if d == vanishing {
			store.mu.Lock()
			defer store.mu.Unlock()
			store.lost[d] = true
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, tc := range map[string]struct {
		ctx     context.Context
		blob    cas.Digest
		chunks  []cas.Digest
		want    error
		missing []cas.Digest
	}{
		"missing chunk":   {t.Context(), blob, []cas.Digest{a, b, gone}, cas.ErrNotFound, []cas.Digest{gone}},
		"of itself":       {t.Context(), blob, []cas.Digest{blob}, cas.ErrNotFound, []cas.Digest{blob}},
		"wrong order":     {t.Context(), cas.SHA256.Sum([]byte("aaabbb")), []cas.Digest{b, a}, cas.ErrMismatch, nil},
		"evicted between": {t.Context(), withVanishing, []cas.Digest{a, vanishing}, cas.ErrNotFound, []cas.Digest{vanishing}},
		"cancelled":       {ctx, cas.SHA256.Sum([]byte("aaabbb")), []cas.Digest{a, b}, context.Canceled, nil},
	} {
		err := chunking.Splice(tc.ctx, store, tc.blob, tc.chunks)
		var missing *cas.MissingError
		if !errors.Is(err, tc.want) || errors.As(err, &missing) && !slices.Equal(missing.Digests, tc.missing) {
			t.Errorf("%s: got %v, want %v of %v", name, err, tc.want, tc.missing)
		}
		if present(t, store, tc.blob) || store.open.Load() != 0 {
			t.Errorf("%s: a blob was made, or %d readers are open", name, store.open.Load())
		}
	}
}

// REAPI C36: a present blob is not made again, whatever the chunks are, but blob
// and chunks are used.
func TestSpliceOfPresentBlob(t *testing.T) {
	store := &watched{Store: memory.New(10)}
	chunk, blob := put(t, store, cas.SHA256, []byte("aaa")), put(t, store, cas.SHA256, []byte("aaabb"))
	tail := cas.SHA256.Sum([]byte("bb"))
	for i := range byte(20) {
		if err := chunking.Splice(t.Context(), store, blob, []cas.Digest{chunk, tail}); err != nil {
			t.Fatal(err)
		}
		put(t, store, cas.SHA256, []byte{'x', i})
	}
	if !present(t, store, chunk, blob) || present(t, store, tail) || store.gets.Load() != 0 {
		t.Errorf("blob or chunk is gone, the absent chunk was made, or %d were read", store.gets.Load())
	}
}

// REAPI C41: the chunks that a client made are those that a split finds.
func TestSpliceThenSplit(t *testing.T) {
	data := random(82, 8<<20)
	for name, c := range chunkers(t) {
		client, server := memory.New(0), memory.New(0)
		chunks, err := chunking.NewSplitter(c).Split(t.Context(), client, put(t, client, cas.BLAKE3, data))
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range chunks {
			put(t, server, cas.BLAKE3, joined(t, client, []cas.Digest{d}))
		}
		blob := cas.BLAKE3.Sum(data)
		if err := chunking.Splice(t.Context(), server, blob, chunks); err != nil {
			t.Fatal(err)
		}
		if got, err := chunking.NewSplitter(c).Split(t.Context(), server, blob); err != nil || !slices.Equal(got, chunks) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}
