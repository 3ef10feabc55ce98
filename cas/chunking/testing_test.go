package chunking_test

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/chunking"
)

// random returns bytes that are the same for the same seed.
func random(seed byte, n int) []byte {
	data := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(data)
	return data
}

// cut returns the sizes of the chunks of what r gives, which must be data.
func cut(t *testing.T, c chunking.Chunker, r io.Reader, data []byte) []int {
	t.Helper()
	var sizes []int
	for chunk, err := range c.Chunks(r) {
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.HasPrefix(data, chunk) || int64(len(chunk)) > c.MaxSize() || len(chunk) == 0 {
			t.Fatalf("chunk %d of %d bytes is not part of the data, or of no right size", len(sizes), len(chunk))
		}
		sizes = append(sizes, len(chunk))
		data = data[len(chunk):]
	}
	if len(data) > 0 {
		t.Fatalf("%d bytes are in no chunk", len(data))
	}
	return sizes
}

// peeker is data as the library wants it.
func peeker(data []byte) *bufio.Reader {
	return bufio.NewReaderSize(bytes.NewReader(data), len(data)+1)
}

// chunkers are the chunking functions with the parameters that clients use.
func chunkers(t testing.TB) map[string]chunking.Chunker {
	t.Helper()
	fast, err := chunking.NewFastCDC(chunking.FastCDCParams{Min: 128 << 10, Avg: 512 << 10, Max: 2 << 20})
	if err != nil {
		t.Fatal(err)
	}
	repMax, err := chunking.NewRepMaxCDC(chunking.RepMaxCDCParams{Min: 256 << 10, Horizon: 2 << 20})
	if err != nil {
		t.Fatal(err)
	}
	return map[string]chunking.Chunker{"FastCDC": fast, "RepMaxCDC": repMax}
}

// watched is a Store that counts what is read, and loses or damages blobs when
// told to.
type watched struct {
	cas.Store
	gets, open atomic.Int64
	onGet      func(cas.Digest)

	mu      sync.Mutex // guards all below
	lost    map[cas.Digest]bool
	damaged map[cas.Digest]bool
}

// Get implements cas.Getter.
func (w *watched) Get(ctx context.Context, d cas.Digest, offset int64) (io.ReadCloser, error) {
	w.gets.Add(1)
	if w.onGet != nil {
		w.onGet(d)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.lost[d] {
		return nil, &cas.MissingError{Digests: []cas.Digest{d}}
	}
	r, err := w.Store.Get(ctx, d, offset)
	if err != nil {
		return nil, err
	}
	w.open.Add(1)
	if w.damaged[d] {
		return &watchedReader{io.MultiReader(bytes.NewReader([]byte{0}), io.LimitReader(r, d.Size()-1)), w}, nil
	}
	return &watchedReader{r, w}, nil
}

type watchedReader struct {
	io.Reader
	w *watched
}

// Close implements io.Closer.
func (r *watchedReader) Close() error {
	r.w.open.Add(-1)
	return nil
}

// FindMissing implements cas.Finder.
func (w *watched) FindMissing(ctx context.Context, ds []cas.Digest) ([]cas.Digest, error) {
	missing, err := w.Store.FindMissing(ctx, ds)
	w.mu.Lock()
	defer w.mu.Unlock()
	for d := range w.lost {
		if slices.Contains(ds, d) && !slices.Contains(missing, d) {
			missing = append(missing, d)
		}
	}
	return missing, err
}

// Put implements cas.Putter.
func (w *watched) Put(ctx context.Context, c *cas.Content) error {
	err := w.Store.Put(ctx, c)
	if err == nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.lost, c.Digest())
	}
	return err
}

func put(t *testing.T, s cas.Store, f cas.Function, data []byte) cas.Digest {
	t.Helper()
	d, err := cas.PutBytes(t.Context(), s, f, data)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// joined is the bytes of all the blobs together.
func joined(t *testing.T, s cas.Store, ds []cas.Digest) []byte {
	t.Helper()
	var all []byte
	for _, d := range ds {
		data, err := cas.ReadAll(t.Context(), s, d, d.Size())
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, data...)
	}
	return all
}

func present(t *testing.T, s cas.Store, ds ...cas.Digest) bool {
	t.Helper()
	missing, err := s.FindMissing(t.Context(), ds)
	if err != nil {
		t.Fatal(err)
	}
	return len(missing) == 0
}
