package tiered

import (
	"context"
	"sync"

	"golang.org/x/sync/semaphore"

	"github.com/hearth-build/hearth/cas"
)

// One call moves so many blobs between the tiers at once: many small ones, which
// share calls, or some large ones, which have buffers of their own.
const (
	parallelSmall = 256
	parallelLarge = 16
)

// together calls f for the index of every digest, some at a time, and returns
// when all calls have.
func together(ds []cas.Digest, f func(i int)) {
	var work sync.WaitGroup
	seats := semaphore.NewWeighted(parallelSmall)
	for i, d := range ds {
		weight := int64(1)
		if d.Size() > smallBlob {
			weight = parallelSmall / parallelLarge
		}
		_ = seats.Acquire(context.Background(), weight) // fails with its context only
		work.Go(func() {
			defer seats.Release(weight)
			f(i)
		})
	}
	work.Wait()
}

// each calls f for every digest, some at a time. The first error cancels the rest.
func each(ctx context.Context, ds []cas.Digest, f func(ctx context.Context, d cas.Digest) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	together(ds, func(i int) {
		if ctx.Err() != nil {
			return
		}
		if err := f(ctx, ds[i]); err != nil {
			cancel(err)
		}
	})
	return context.Cause(ctx)
}
