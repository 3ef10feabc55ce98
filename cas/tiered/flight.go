package tiered

import (
	"context"
	"errors"
	"sync"
)

var (
	errAbandoned = errors.New("nobody waits for it any more")
	errClosed    = errors.New("the tiered store is closed")
)

// flights is work that is done once for all who want it at the same time. It
// belongs to none of them: it has a goroutine of its own, which close waits for,
// and ends early only when all have left.
type flights[K comparable, V any] struct {
	work sync.WaitGroup

	mu     sync.Mutex // guards all below, and what a flight says that it guards
	byKey  map[K]*flight[V]
	closed bool
	all    map[*flight[V]]struct{}
}

// flight is one piece of work.
type flight[V any] struct {
	value  V // what its parties share
	done   chan struct{}
	err    error // once done is closed
	cancel context.CancelCauseFunc
	refs   int // parties that are left; guarded by flights.mu
}

func newFlights[K comparable, V any]() *flights[K, V] {
	return &flights[K, V]{byKey: map[K]*flight[V]{}, all: map[*flight[V]]struct{}{}}
}

// join makes the caller a party to the work on a key, which it starts if there is
// none. The caller leaves.
func (g *flights[K, V]) join(ctx context.Context, key K, begin func() V, run func(ctx context.Context, value V) error) (*flight[V], error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil, errClosed
	}
	if f := g.byKey[key]; f != nil {
		f.refs++
		return f, nil
	}
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	f := &flight[V]{value: begin(), done: make(chan struct{}), cancel: cancel, refs: 1}
	g.byKey[key] = f
	g.all[f] = struct{}{}
	g.work.Go(func() {
		err := run(ctx, f.value)
		g.mu.Lock()
		defer g.mu.Unlock()
		f.err = err
		g.forgetLocked(key, f)
		delete(g.all, f)
		cancel(nil)
		close(f.done)
	})
	return f, nil
}

// leave ends a party's interest. Without any the work is cancelled, and who comes
// later starts it anew.
func (g *flights[K, V]) leave(key K, f *flight[V]) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if f.refs--; f.refs == 0 {
		g.forgetLocked(key, f)
		f.cancel(errAbandoned)
	}
}

// forget lets who comes later start anew. It returns the work in progress, which
// goes on, if there is any.
func (g *flights[K, V]) forget(key K) *flight[V] {
	g.mu.Lock()
	defer g.mu.Unlock()
	f := g.byKey[key]
	delete(g.byKey, key)
	return f
}

func (g *flights[K, V]) forgetLocked(key K, f *flight[V]) {
	if g.byKey[key] == f {
		delete(g.byKey, key)
	}
}

// do is join, wait and leave.
func (g *flights[K, V]) do(ctx context.Context, key K, begin func() V, run func(ctx context.Context, value V) error) (value V, err error) {
	f, err := g.join(ctx, key, begin, run)
	if err != nil {
		return value, err
	}
	defer g.leave(key, f)
	return f.value, f.wait(ctx)
}

// wait waits for the end of the work.
func (f *flight[V]) wait(ctx context.Context) error {
	select {
	case <-f.done:
		return f.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// close cancels all work and waits for its end.
func (g *flights[K, V]) close() {
	g.mu.Lock()
	g.closed = true
	for f := range g.all {
		f.cancel(errClosed)
	}
	g.mu.Unlock()
	g.work.Wait()
}
