package castest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/hearth-build/hearth/cas"
)

// sizes are those at which stores change how they handle a blob.
func sizes() []int {
	return []int{0, 1, 4095, 4096, 4097, 32<<10 - 1, 32 << 10, 32<<10 + 1, 64<<10 - 1, 64 << 10, 64<<10 + 1, 5 << 20}
}

func testRoundTrip(t *testing.T, s cas.Store) {
	for _, f := range cas.Functions() {
		for _, size := range sizes() {
			t.Run(fmt.Sprintf("%v/%d", f, size), func(t *testing.T) {
				data := random(uint64(f), size)
				d := f.Sum(data)
				if err := s.Put(t.Context(), cas.Checked(d, data)); err != nil {
					t.Fatal(err)
				}
				mustHold(t, s, d, data)
				if all, err := cas.ReadAll(t.Context(), s, d, d.Size()); err != nil || !bytes.Equal(all, data) {
					t.Errorf("ReadAll: %d bytes, %v", len(all), err)
				}
			})
		}
	}
}

// REAPI D30.
func testOffsets(t *testing.T, s cas.Store) {
	for _, size := range sizes() {
		data := random(1, size)
		d := put(t, s, cas.SHA256, data)
		n := d.Size()
		for _, offset := range []int64{0, n / 2, n - 1, n} {
			if offset < 0 {
				continue
			}
			if got, err := get(t.Context(), s, d, offset); err != nil || !bytes.Equal(got, data[offset:]) {
				t.Errorf("%d bytes from offset %d: got %d bytes, %v", n, offset, len(got), err)
			}
		}
		for _, offset := range []int64{-1, n + 1, -1 << 63, 1<<63 - 1} {
			if _, err := get(t.Context(), s, d, offset); !errors.Is(err, cas.ErrOutOfRange) {
				t.Errorf("%d bytes from offset %d: got %v, want ErrOutOfRange", n, offset, err)
			}
		}
	}
}

func testReadersAreIndependent(t *testing.T, s cas.Store) {
	data := random(2, 100_000)
	d := put(t, s, cas.SHA256, data)
	var readers [2]io.ReadCloser
	for i := range readers {
		r, err := s.Get(t.Context(), d, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		readers[i] = r
	}
	var got [2][]byte
	for len(got[0]) < len(data) {
		for i, r := range readers {
			piece := make([]byte, 10_000)
			if _, err := io.ReadFull(r, piece); err != nil {
				t.Fatal(err)
			}
			got[i] = append(got[i], piece...)
		}
	}
	if !bytes.Equal(got[0], data) || !bytes.Equal(got[1], data) {
		t.Error("two readers of one blob disturb each other")
	}
}

func testAbsent(t *testing.T, s cas.Store) {
	d := cas.SHA256.Sum([]byte("never stored"))
	mustLack(t, s, d)
	var missing *cas.MissingError
	if _, err := s.Get(t.Context(), d, 0); !errors.As(err, &missing) || len(missing.Digests) != 1 || missing.Digests[0] != d {
		t.Errorf("Get: %v does not name the blob", err)
	}
	// REAPI 0.3: a stored hash with another size is another blob.
	stored := put(t, s, cas.SHA256, []byte("stored"))
	other, err := cas.ParseDigest(cas.SHA256, stored.Hash(), stored.Size()+1)
	if err != nil {
		t.Fatal(err)
	}
	mustLack(t, s, other)
}

// REAPI B11, B14.
func testEmptyBlob(t *testing.T, s cas.Store) {
	for _, f := range cas.Functions() {
		mustHold(t, s, f.Empty(), nil)
		put(t, s, f, nil)
		mustHold(t, s, f.Empty(), nil)
	}
}

// REAPI B7.
func testFunctionsAreApart(t *testing.T, s cas.Store) {
	data := random(3, 1000)
	d := put(t, s, cas.SHA256, data)
	same, err := cas.ParseDigest(cas.BLAKE3, d.Hash(), d.Size())
	if err != nil {
		t.Fatal(err)
	}
	mustLack(t, s, same)
	missing, err := s.FindMissing(t.Context(), []cas.Digest{d, same})
	if err != nil || len(missing) != 1 || missing[0] != same {
		t.Errorf("FindMissing of both: %v, %v", missing, err)
	}
	// Bytes that are right for one function are wrong for the other.
	if err := s.Put(t.Context(), cas.Checked(same, data)); !errors.Is(err, cas.ErrMismatch) {
		t.Errorf("Put under the other function: got %v, want ErrMismatch", err)
	}
	mustLack(t, s, same)
	blake := put(t, s, cas.BLAKE3, data)
	mustHold(t, s, d, data)
	mustHold(t, s, blake, data)
}

func testNoAliasing(t *testing.T, s cas.Store) {
	for _, size := range []int{100, 100_000} {
		data := random(4, size)
		sent := bytes.Clone(data)
		d := cas.SHA256.Sum(data)
		if err := s.Put(t.Context(), cas.Checked(d, sent)); err != nil {
			t.Fatal(err)
		}
		clear(sent)
		mustHold(t, s, d, data)
		got, err := cas.ReadAll(t.Context(), s, d, d.Size())
		if err != nil {
			t.Fatal(err)
		}
		clear(got)
		mustHold(t, s, d, data)
	}
}

func testTooLarge(t *testing.T, s cas.Store) {
	if _, evicts := s.(cas.Leaser); !evicts {
		return // a store without a budget takes any size
	}
	kept := put(t, s, cas.SHA256, []byte("kept"))
	for _, size := range []int64{Budget + 1, 1 << 62} {
		d, err := cas.ParseDigest(cas.SHA256, strings.Repeat("ab", 32), size)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Put(t.Context(), cas.Checked(d, []byte("x"))); !errors.Is(err, cas.ErrTooLarge) {
			t.Errorf("blob of %d bytes: got %v, want ErrTooLarge", size, err)
		}
	}
	mustHold(t, s, kept, []byte("kept")) // no blob had to go for one that never fits
}
