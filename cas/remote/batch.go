package remote

import (
	"context"

	"golang.org/x/sync/errgroup"

	"github.com/hearth-build/hearth/cas"
)

// One PutAll or GetAll has so many blobs under way at once: many small ones, which
// share calls, and a few large ones, each with a stream and buffers of its own.
const (
	parallelSmall = 256
	parallelLarge = 8
)

// PutAll implements cas.BatchPutter.
func (s *Store) PutAll(ctx context.Context, cs []*cas.Content) []error {
	errs := make([]error, len(cs))
	together(len(cs), func(i int) int64 { return cs[i].Digest().Size() }, func(i int) {
		errs[i] = s.Put(ctx, cs[i])
	})
	return errs
}

// GetAll implements cas.BatchGetter.
func (s *Store) GetAll(ctx context.Context, ds []cas.Digest) ([][]byte, []error) {
	data, errs := make([][]byte, len(ds)), make([]error, len(ds))
	together(len(ds), func(i int) int64 { return ds[i].Size() }, func(i int) {
		data[i], errs[i] = cas.ReadAll(ctx, s, ds[i], ds[i].Size())
	})
	return data, errs
}

// together calls f for n blobs and returns when all calls have. What comes at the
// same time is gathered into batches (batcher).
func together(n int, size func(i int) int64, f func(i int)) {
	var small, large errgroup.Group
	small.SetLimit(parallelSmall)
	large.SetLimit(parallelLarge)
	for i := range n {
		group := &small
		if size(i) > smallBlob {
			group = &large
		}
		group.Go(func() error {
			f(i)
			return nil
		})
	}
	for _, group := range []*errgroup.Group{&small, &large} {
		_ = group.Wait() // f keeps its errors
	}
}
