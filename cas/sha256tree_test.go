package cas_test

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"os"
	"strings"
	"testing"

	"github.com/hearth-build/hearth/cas"
)

// counting is what the vectors are about: 0 to 250, over and over.
func counting(n int) []byte {
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(i % 251)
	}
	return data
}

// inPieces writes data to h in pieces of the given size and returns the hash.
func inPieces(t *testing.T, h hash.Hash, data []byte, size int) string {
	t.Helper()
	for len(data) > 0 {
		n := min(size, len(data))
		if written, err := h.Write(data[:n]); written != n || err != nil {
			t.Fatalf("wrote %d of %d bytes, %v", written, n, err)
		}
		data = data[n:]
	}
	return hex.EncodeToString(h.Sum(nil))
}

// REAPI B8: the published vectors, however the bytes come.
func TestSHA256TREEVectors(t *testing.T) {
	f, err := os.Open("testdata/sha256tree.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	vectors := 0
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "#") {
			continue
		}
		var want string
		var n int
		if _, err := fmt.Sscan(lines.Text(), &want, &n); err != nil {
			t.Fatalf("%q: %v", lines.Text(), err)
		}
		vectors++
		data := counting(n)
		for _, piece := range []int{1, 777, 1023, 1024, 1025, 5000, n} {
			if got := inPieces(t, cas.SHA256TREE.New(int64(n)), data, piece); got != want {
				t.Errorf("%d bytes in pieces of %d: got %s, want %s", n, piece, got, want)
			}
		}
	}
	if vectors != 18 {
		t.Errorf("%d vectors were tried, want 18", vectors)
	}
}

// REAPI B8: blobs of one chunk are hashed as by SHA-256.
func TestSHA256TREEOfOneChunk(t *testing.T) {
	for _, n := range []int{0, 1, 63, 64, 1023, 1024} {
		data := counting(n)
		sum := sha256.Sum256(data)
		if got := cas.SHA256TREE.Sum(data).Hash(); got != hex.EncodeToString(sum[:]) {
			t.Errorf("%d bytes: got %s, want %x", n, got, sum)
		}
	}
}

// A hash.Hash may be asked in the middle, and used again.
func TestHashesKeepTheirPromises(t *testing.T) {
	data := counting(10_000)
	for _, f := range cas.Functions() {
		want := f.Sum(data).Hash()
		h := f.New(int64(len(data)))
		h.Write(data[:5000])
		if a, b := h.Sum(nil), h.Sum([]byte("x")); !bytes.Equal(append([]byte("x"), a...), b) {
			t.Errorf("%v: two sums of the same bytes are %x and %x", f, a, b)
		}
		h.Write(data[5000:])
		if got := hex.EncodeToString(h.Sum(nil)); got != want {
			t.Errorf("%v: asking for the sum in the middle changed it to %s, want %s", f, got, want)
		}
		h.Reset()
		if got := inPieces(t, h, data, 3000); got != want {
			t.Errorf("%v: after Reset %s, want %s", f, got, want)
		}
		if h.Size()*2 != f.HexLen() || h.BlockSize() <= 0 {
			t.Errorf("%v: size %d, block size %d", f, h.Size(), h.BlockSize())
		}
	}
}

// REAPI B9: what `git hash-object` says; the size is part of what is hashed.
func TestGITSHA1(t *testing.T) {
	for data, want := range map[string]string{
		"":              "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391",
		"abc":           "f2ba8f84ab5c1bce84a7b441cb1959cfc7093b7f",
		"hello world\n": "3b18e512dba79e4c8300dd08aeb37f8e728b8dad",
	} {
		d := cas.GITSHA1.Sum([]byte(data))
		if d.Hash() != want {
			t.Errorf("%q: got %s, want %s", data, d.Hash(), want)
		}
		if _, err := cas.Checked(d, []byte(data)).Bytes(); err != nil {
			t.Errorf("%q: streamed with its size: %v", data, err)
		}
	}
}

func BenchmarkHash(b *testing.B) {
	for _, size := range []int{1 << 10, 1 << 20} {
		data := counting(size)
		for _, f := range cas.Functions() {
			b.Run(fmt.Sprintf("%v/%d", f, size), func(b *testing.B) {
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					f.Sum(data)
				}
			})
		}
	}
}
