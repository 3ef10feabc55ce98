package buildbarn

import (
	"context"
	"math/rand/v2"
	"time"
)

// backoff is how long to wait after failures in a row. It grows, and is never the
// same for two slots, so that a scheduler that comes back is not run over.
type backoff struct{ failures int }

// The longest wait is far below the minute after which the scheduler gives a worker up.
const minBackoff, maxBackoff = 250 * time.Millisecond, 8 * time.Second

// first notes a failure, and reports whether it is the first in a row.
func (b *backoff) first() bool {
	b.failures++
	return b.failures == 1
}

// reset notes a success, and reports whether it is the first after a failure.
func (b *backoff) reset() bool {
	failed := b.failures > 0
	b.failures = 0
	return failed
}

// pause is between the half and the whole of what has doubled with each failure.
func (b *backoff) pause() time.Duration {
	most := minBackoff
	for range b.failures - 1 {
		most = min(2*most, maxBackoff)
	}
	return most/2 + rand.N(most/2)
}

// wait pauses, unless ctx ends.
func (b *backoff) wait(ctx context.Context) {
	timer := time.NewTimer(b.pause())
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
