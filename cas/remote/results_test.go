package remote_test

import (
	"errors"
	"testing"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/protobuf/proto"

	"github.com/hearth-build/hearth/cas"
)

// REAPI E1, E12, E14, E17.
func TestResults(t *testing.T) {
	r := newRig(t, newMemory(), quick())
	cache := r.store.Results()
	for i, f := range cas.Functions() {
		key := f.Sum([]byte("action"))
		if got, err := cache.Get(t.Context(), key); !errors.Is(err, cas.ErrNotFound) || got != nil {
			t.Errorf("%v: got %v, %v before Put", f, got, err)
		}
		for _, want := range []*repb.ActionResult{
			{ExitCode: int32(i), StdoutDigest: f.Sum([]byte("out")).Proto()},
			{OutputFiles: []*repb.OutputFile{{Path: "a.out", Digest: f.Sum([]byte("a.out")).Proto()}}},
			{},
		} {
			if err := cache.Put(t.Context(), key, want); err != nil {
				t.Fatalf("%v: %v", f, err)
			}
			if got, err := cache.Get(t.Context(), key); err != nil || !proto.Equal(got, want) {
				t.Errorf("%v: got %v, %v, want %v", f, got, err, want)
			}
		}
	}
}
