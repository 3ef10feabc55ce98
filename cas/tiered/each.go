package tiered

import (
	"context"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/hearth-build/hearth/cas"
)

// One call moves so many blobs between the tiers at once: many small ones, which
// share calls, or some large ones, which have buffers of their own.
const (
	parallelSmall = 256
	parallelLarge = 16
)

// each calls f for every digest, some at a time. The first error cancels the rest.
func each(ctx context.Context, ds []cas.Digest, f func(ctx context.Context, d cas.Digest) error) error {
	group, groupCtx := errgroup.WithContext(ctx)
	seats := semaphore.NewWeighted(parallelSmall)
	for _, d := range ds {
		weight := int64(1)
		if d.Size() > smallBlob {
			weight = parallelSmall / parallelLarge
		}
		if seats.Acquire(groupCtx, weight) != nil {
			break // for the reason that the group, or ctx, has
		}
		group.Go(func() error {
			defer seats.Release(weight)
			return f(groupCtx, d)
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return context.Cause(ctx)
}
