package cas_test

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"

	"github.com/hearth-build/hearth/cas"
)

// REAPI 0.4, B2-B6, B12: any digest message is refused in order, or is one that
// means itself.
func FuzzDigest(f *testing.F) {
	for _, fn := range cas.Functions() {
		for _, data := range []string{"", "x"} {
			d := fn.Sum([]byte(data))
			f.Add(int32(fn), d.Hash(), d.Size())
			f.Add(int32(repb.DigestFunction_UNKNOWN), d.Hash(), d.Size())
			f.Add(int32(fn), d.Hash()[1:], d.Size())
			f.Add(int32(fn), "A"+d.Hash()[1:], d.Size())
			f.Add(int32(fn), d.Hash(), int64(0))
			f.Add(int32(fn)+1, d.Hash(), -d.Size())
		}
	}
	f.Add(int32(repb.DigestFunction_VSO), "", int64(1)<<62)
	f.Add(int32(-1), "\xff", int64(-1)<<63)
	f.Fuzz(func(t *testing.T, function int32, hash string, size int64) {
		named := repb.DigestFunction_Value(function)
		d, err := cas.FromProto(named, &repb.Digest{Hash: hash, SizeBytes: size})
		if err != nil {
			if !errors.Is(err, cas.ErrInvalidDigest) || len(err.Error()) > 1000 {
				t.Errorf("refused with %d bytes: %v", len(err.Error()), err)
			}
			return
		}
		if d.Hash() != hash || d.Size() != size || len(hash) != d.Function().HexLen() || size < 0 || d.IsEmptyBlob() != (d == d.Function().Empty()) {
			t.Errorf("%v %q/%d is %v", named, hash, size, d)
		}
		if named != repb.DigestFunction_UNKNOWN && d.Function().Proto() != named || named == repb.DigestFunction_UNKNOWN && d.Function().Named() {
			t.Errorf("%v means %v", named, d.Function())
		}
		if again, err := cas.FromProto(d.Function().Proto(), d.Proto()); err != nil || again != d {
			t.Errorf("%v became %v, %v", d, again, err)
		}
	})
}

// REAPI 0.1, 0.3, B8, B9: content is accepted for its own digest and no other,
// however it arrives.
func FuzzContent(f *testing.F) {
	for i := range cas.Functions() {
		for _, n := range []int{0, 1, 1024, 1025, 2048, 5000} {
			f.Add(byte(i), bytes.Repeat([]byte("tree"), n)[:n], int64(n), byte(n))
		}
	}
	f.Fuzz(func(t *testing.T, function byte, data []byte, size int64, other byte) {
		fn := cas.Functions()[int(function)%len(cas.Functions())]
		d := fn.Sum(data)
		got, err := io.ReadAll(cas.NewContent(d, iotest.HalfReader(bytes.NewReader(data))))
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes as %v: %d bytes, %v", len(data), d, len(got), err)
		}
		wrong, err := cas.ParseDigest(fn, d.Hash(), size)
		if err == nil && wrong != d {
			if _, err := cas.NewContent(wrong, bytes.NewReader(data)).Bytes(); !errors.Is(err, cas.ErrMismatch) {
				t.Errorf("%d bytes as %v: %v", len(data), wrong, err)
			}
		}
		changed := append(bytes.Clone(data), other)
		if len(data) > 0 && data[0] != other {
			changed = bytes.Clone(data)
			changed[0] = other
		}
		if _, err := io.Copy(io.Discard, cas.Checked(d, changed)); !errors.Is(err, cas.ErrMismatch) {
			t.Errorf("other bytes as %v: %v", d, err)
		}
	})
}
