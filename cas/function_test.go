package cas_test

import (
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"

	"github.com/hearth-build/hearth/cas"
)

// Known answers: the digests of "abc" as the standards publish them.
func TestKnownDigests(t *testing.T) {
	want := map[cas.Function]string{
		cas.MD5:        "900150983cd24fb0d6963f7d28e17f72",
		cas.GITSHA1:    "f2ba8f84ab5c1bce84a7b441cb1959cfc7093b7f",
		cas.SHA1:       "a9993e364706816aba3e25717850c26c9cd0d89d",
		cas.SHA256:     "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
		cas.SHA384:     "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7",
		cas.SHA512:     "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
		cas.SHA256TREE: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
		cas.BLAKE3:     "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85",
	}
	for _, f := range cas.Functions() {
		d := f.Sum([]byte("abc"))
		if d.Hash() != want[f] || d.Size() != 3 {
			t.Errorf("%v: got %v, want %s", f, d, want[f])
		}
		if size := f.New(3).Size(); f.HexLen() != 2*size {
			t.Errorf("%v: hashes of %d bytes, but %d characters", f, size, f.HexLen())
		}
	}
}

// REAPI A3, B1.
func TestFunctionsAreTheAPIsOnes(t *testing.T) {
	var numbers []int
	for _, f := range cas.Functions() {
		numbers = append(numbers, int(f))
		if strings.ToLower(f.Proto().String()) != f.String() {
			t.Errorf("function %d is called %v here and %v in the API", f, f, f.Proto())
		}
	}
	slices.Sort(numbers)
	if slices.Contains(numbers, 0) || len(slices.Compact(numbers)) != len(cas.Functions()) {
		t.Errorf("functions %v: UNKNOWN or a duplicate is among them", numbers)
	}
	if len(numbers) != 8 {
		t.Errorf("%d functions are served, want 8", len(numbers))
	}
	if cas.Functions()[0] != cas.SHA256 {
		t.Error("SHA256 is the one to prefer (REAPI A5)")
	}
}

// REAPI B4, B5, B6.
func TestFunctionOf(t *testing.T) {
	unknown := repb.DigestFunction_UNKNOWN
	for _, tc := range []struct {
		named repb.DigestFunction_Value
		chars int
		want  cas.Function
	}{
		{unknown, 32, cas.MD5},
		{unknown, 40, cas.SHA1},   // never GITSHA1
		{unknown, 64, cas.SHA256}, // never BLAKE3 or SHA256TREE
		{unknown, 96, cas.SHA384},
		{unknown, 128, cas.SHA512},
		{unknown, 66, 0}, // VSO is not served
		{unknown, 0, 0},
		{unknown, 63, 0},
		{repb.DigestFunction_BLAKE3, 64, cas.BLAKE3},
		{repb.DigestFunction_SHA256TREE, 64, cas.SHA256TREE},
		{repb.DigestFunction_GITSHA1, 40, cas.GITSHA1},
		{repb.DigestFunction_MURMUR3, 32, 0},
		{repb.DigestFunction_VSO, 66, 0},
		{-1, 64, 0},
		{99, 64, 0},
		{256 + 1, 64, 0}, // must not wrap around to SHA256
	} {
		got, err := cas.FunctionOf(tc.named, strings.Repeat("a", tc.chars))
		if got != tc.want || (tc.want == 0) != errors.Is(err, cas.ErrInvalidDigest) {
			t.Errorf("named %v, %d characters: got %v, %v, want %v", tc.named, tc.chars, got, err, tc.want)
		}
	}
}

// REAPI B7.
func TestEqualHashesOfTwoFunctionsDiffer(t *testing.T) {
	h := strings.Repeat("ab", 32)
	a, errA := cas.ParseDigest(cas.SHA256, h, 5)
	b, errB := cas.ParseDigest(cas.BLAKE3, h, 5)
	c, errC := cas.ParseDigest(cas.SHA256TREE, h, 5)
	if err := errors.Join(errA, errB, errC); err != nil {
		t.Fatal(err)
	}
	if a == b || a == c || b == c {
		t.Errorf("two of %v, %v and %v are the same key", a, b, c)
	}
}

func BenchmarkFromProto(b *testing.B) {
	ps := make([]*repb.Digest, 10_000) // a processor learns what a few look like
	for i := range ps {
		ps[i] = cas.SHA256.Sum(binary.AppendUvarint([]byte("x"), uint64(i))).Proto()
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := cas.FromProto(repb.DigestFunction_UNKNOWN, ps[i%len(ps)]); err != nil {
			b.Fatal(err)
		}
	}
}
