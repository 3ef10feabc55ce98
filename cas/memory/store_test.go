package memory_test

import (
	"errors"
	"testing"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/castest"
	"github.com/hearth-build/hearth/cas/memory"
)

func TestStore(t *testing.T) {
	castest.Test(t, func(*testing.T) cas.Store { return memory.New(castest.Budget) })
}

func BenchmarkStore(b *testing.B) {
	castest.Benchmark(b, func(*testing.B) cas.Store { return memory.New(4 << 30) })
}

func TestEvictsTheLeastRecentlyUsed(t *testing.T) {
	s := memory.New(30)
	blob := func(c byte) []byte { return []byte{c, 1, 2, 3, 4, 5, 6, 7, 8, 9} }
	for _, c := range []byte("abcad") { // the second a is a use of the first
		if _, err := cas.PutBytes(t.Context(), s, cas.SHA256, blob(c)); err != nil {
			t.Fatal(err)
		}
	}
	for c, want := range map[byte]bool{'a': true, 'b': false, 'c': true, 'd': true} {
		_, err := cas.ReadAll(t.Context(), s, cas.SHA256.Sum(blob(c)), 10)
		if want != (err == nil) || (!want && !errors.Is(err, cas.ErrNotFound)) {
			t.Errorf("blob %c: %v, want it present: %t", c, err, want)
		}
	}
}

func TestNoLimit(t *testing.T) {
	s := memory.New(0)
	for i := range 100 {
		if _, err := cas.PutBytes(t.Context(), s, cas.MD5, []byte{byte(i), 1}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := cas.ReadAll(t.Context(), s, cas.MD5.Sum([]byte{0, 1}), 10); err != nil {
		t.Errorf("the first of 100 blobs: %v", err)
	}
}
