package cluster

import (
	"context"
	"math/rand/v2"
	"time"
)

// Backoff is how long to wait after failures in a row. It grows, and is never the
// same for two that wait, so that a scheduler that comes back is not run over.
type Backoff struct{ failures int }

// The longest wait is far below the minute after which the scheduler gives a worker up.
const minBackoff, maxBackoff = 250 * time.Millisecond, 8 * time.Second

// First notes a failure, and reports whether it is the first in a row.
func (b *Backoff) First() bool {
	b.failures++
	return b.failures == 1
}

// Reset notes a success, and reports whether it is the first after a failure.
func (b *Backoff) Reset() bool {
	failed := b.failures > 0
	b.failures = 0
	return failed
}

// Pause is between the half and the whole of what has doubled with each failure.
func (b *Backoff) Pause() time.Duration {
	most := minBackoff
	for range b.failures - 1 {
		most = min(2*most, maxBackoff)
	}
	return most/2 + rand.N(most/2)
}

// Wait pauses, unless ctx ends.
func (b *Backoff) Wait(ctx context.Context) {
	timer := time.NewTimer(b.Pause())
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
