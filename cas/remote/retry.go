package remote

import (
	"context"
	"math/rand/v2"
	"time"
)

// attempts counts the failures of one call and waits between them.
type attempts struct {
	options Options
	failed  int
}

// again waits for the time of the next attempt. It returns what to fail with if
// there is to be none: err itself, or why ctx ended.
func (a *attempts) again(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if !retryable(err) || a.failed >= a.options.Retries {
		return err
	}
	delay := max(a.delay(), delayOf(err))
	a.failed++
	deadline, bounded := ctx.Deadline()
	if delay > a.options.MaxDelay || bounded && time.Now().Add(delay).After(deadline) {
		return err // which says more than that time ran out
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// progress makes a call that moves on as patient as one that begins.
func (a *attempts) progress() { a.failed = 0 }

// delay doubles from one failure to the next. Half of it is left to chance, so
// that those who failed together do not come back together.
func (a *attempts) delay() time.Duration {
	d := a.options.MinDelay
	for range a.failed {
		if d = 2 * d; d >= a.options.MaxDelay {
			d = a.options.MaxDelay
			break
		}
	}
	return d/2 + rand.N(d/2+1)
}

func (s *Store) attempts() *attempts { return &attempts{options: s.options} }

// retry makes a call with one answer until it succeeds or is not worth another
// attempt. Each attempt has its own deadline.
func (s *Store) retry(ctx context.Context, call func(ctx context.Context) error) error {
	tries := s.attempts()
	for {
		err := s.once(ctx, call)
		if err == nil {
			return nil
		}
		if err := tries.again(ctx, err); err != nil {
			return err
		}
	}
}

func (s *Store) once(ctx context.Context, call func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, s.options.CallTimeout)
	defer cancel()
	return call(ctx)
}
