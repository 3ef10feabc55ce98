package podman

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/hearth-build/hearth/runners"
)

// pulls shares one pull of an image between all who want it at a time. A pull
// goes on when they all give up: to break one off can damage podman's store, and
// the next one gains.
type pulls struct {
	timeout time.Duration // of one
	// work is the context of all pulls; a function since a context is no field.
	work     func() context.Context
	end      context.CancelCauseFunc
	routines sync.WaitGroup

	mu      sync.Mutex // guards all below
	closed  bool
	flights map[runners.ImageRef]*pull
}

// pull is one under way. Its result is set before done is closed.
type pull struct {
	done  chan struct{}
	image runners.Image
	err   error
}

func newPulls(timeout time.Duration) *pulls {
	work, end := context.WithCancelCause(context.Background())
	return &pulls{
		timeout: timeout,
		work:    func() context.Context { return work }, end: end,
		flights: map[runners.ImageRef]*pull{},
	}
}

// run runs something else that ends with close.
func (p *pulls) run(f func(ctx context.Context)) { p.routines.Go(func() { f(p.work()) }) }

// close ends all pulls.
func (p *pulls) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.end(runners.ErrClosed)
	p.routines.Wait()
}

// get joins the pull of an image, or begins it.
func (p *pulls) get(ctx context.Context, ref runners.ImageRef, do func(context.Context) (runners.Image, error)) (runners.Image, error) {
	flight, err := p.join(ref, do)
	if err != nil {
		return runners.Image{}, err
	}
	select {
	case <-flight.done:
		return flight.image, flight.err
	case <-ctx.Done():
		return runners.Image{}, fmt.Errorf("wait for the pull: %w", context.Cause(ctx))
	}
}

func (p *pulls) join(ref runners.ImageRef, do func(context.Context) (runners.Image, error)) (*pull, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if flight := p.flights[ref]; flight != nil {
		return flight, nil
	}
	if p.closed {
		return nil, runners.ErrClosed
	}
	flight := &pull{done: make(chan struct{})}
	p.flights[ref] = flight
	p.routines.Go(func() {
		ctx, cancel := context.WithTimeoutCause(p.work(), p.timeout, &slowPullError{p.timeout})
		flight.image, flight.err = do(ctx)
		cancel()
		p.mu.Lock()
		delete(p.flights, ref)
		p.mu.Unlock()
		close(flight.done)
	})
	return flight, nil
}
