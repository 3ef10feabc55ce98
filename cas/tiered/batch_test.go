package tiered_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/memory"
	"github.com/hearth-build/hearth/cas/tiered"
)

func batchOf(n int) (blobs [][]byte, cs []*cas.Content, ds []cas.Digest) {
	for i := range n {
		blobs = append(blobs, fmt.Appendf(nil, "blob %d of a batch", i))
		ds = append(ds, cas.SHA256.Sum(blobs[i]))
		cs = append(cs, cas.Checked(ds[i], blobs[i]))
	}
	return blobs, cs, ds
}

// A batch is stored in both tiers, and read from the nearer one.
func TestBatch(t *testing.T) {
	remote, local := newFar(), openDisk(t, 1<<30)
	s := newStore(t, tiered.Options{Local: local, Remote: remote})
	blobs, cs, ds := batchOf(100)
	if err := errors.Join(cas.PutAll(t.Context(), s, cs)...); err != nil {
		t.Fatal(err)
	}
	for i, d := range ds {
		mustHold(t, local, d, blobs[i])
		mustHold(t, remote, d, blobs[i])
	}
	remote.gets.Store(0)
	fresh := put(t, remote, []byte("only there"))
	data, errs := cas.GetAll(t.Context(), s, append(ds, fresh))
	if err := errors.Join(errs...); err != nil || !bytes.Equal(data[7], blobs[7]) || string(data[100]) != "only there" {
		t.Errorf("%d blobs, %v", len(data), err)
	}
	if n := remote.gets.Load(); n != 1 {
		t.Errorf("%d remote reads for one blob that is not here", n)
	}
	mustHold(t, local, fresh, []byte("only there"))
}

// A local tier that fails costs speed; a remote one that fails is told, blob by
// blob.
func TestBatchWhileATierFails(t *testing.T) {
	remote, local := newFar(), &near{Local: memory.New(0)}
	s := newStore(t, tiered.Options{Local: local, Remote: remote, RememberFor: -1})
	blobs, cs, ds := batchOf(20)
	local.put = func(*cas.Content) error { return cas.ErrNoSpace }
	if err := errors.Join(cas.PutAll(t.Context(), s, cs)...); err != nil {
		t.Fatal(err)
	}
	data, errs := cas.GetAll(t.Context(), s, ds)
	for i := range ds {
		if errs[i] != nil || !bytes.Equal(data[i], blobs[i]) {
			t.Errorf("blob %d: %q, %v", i, data[i], errs[i])
		}
	}
	remote.set(func(f *far) { f.err = cas.ErrUnavailable })
	_, cs, _ = batchOf(20)
	_, errs = cas.GetAll(t.Context(), s, ds)
	for i, err := range append(errs, cas.PutAll(t.Context(), s, cs)...) {
		if !errors.Is(err, cas.ErrUnavailable) {
			t.Errorf("%d: %v", i, err)
		}
	}
}

// Who gives up hears that, and not that blobs are absent.
func TestBatchCancelled(t *testing.T) {
	s := newStore(t, tiered.Options{Local: memory.New(0), Remote: newFar()})
	_, cs, ds := batchOf(20)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, errs := cas.GetAll(ctx, s, ds)
	for i, err := range append(errs, cas.PutAll(ctx, s, cs)...) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%d: %v", i, err)
		}
	}
}
