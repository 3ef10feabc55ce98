package runners

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Close leases no more runners, and removes all: idle and paused ones at once,
// others when their lease ends, and when ctx ends all the same. It returns when
// nothing of the pool is left, or else, a bounded time after ctx's end, an
// error that says what is. It can be called again.
func (p *Pool) Close(ctx context.Context) error {
	saved := p.saveDemand()
	p.beginClose()
	select {
	case <-p.drained:
		return errors.Join(saved, p.leftovers())
	case <-ctx.Done():
	}
	p.forceClose()
	timer := time.NewTimer(lastTimeout + time.Second)
	defer timer.Stop()
	select {
	case <-p.drained:
	case <-timer.C:
	}
	return errors.Join(saved, p.leftovers())
}

// beginClose ends everything but leases and removals.
func (p *Pool) beginClose() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.closed = true
	for _, w := range p.waiters {
		close(w.granted)
	}
	p.waiters = nil
	for _, r := range slices.Clone(p.idle) {
		p.retireLocked(r, ending{removed, "the pool is shut down"})
	}
	p.endWork(ErrClosed)
	p.checkDrainedLocked()
}

// forceClose removes the runners that are still leased, and cuts short what
// removals are doing.
func (p *Pool) forceClose() {
	p.endCleaning(ErrClosed)
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.runners {
		if r.state == Busy {
			p.retireLocked(r, ending{removed, "the pool is shut down"})
		}
	}
}

// checkDrainedLocked notes when a closed pool has nothing left. Nothing comes
// after that: goroutines are started by others and for runners only.
func (p *Pool) checkDrainedLocked() {
	if !p.closed || p.tasks > 0 || len(p.runners) > 0 {
		return
	}
	select {
	case <-p.drained:
	default:
		close(p.drained)
	}
}

// leftovers says what Close could not end.
func (p *Pool) leftovers() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	errs := slices.Clone(p.stuck)
	if len(p.runners) > 0 {
		ids := slices.Sorted(maps.Keys(p.runners))
		errs = append(errs, fmt.Errorf("still there: %s", strings.Join(ids, ", ")))
	} else if p.tasks > 0 {
		errs = append(errs, fmt.Errorf("%d calls of the container engine have not returned", p.tasks))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close the runner pool (the next start sweeps what is left): %w", err)
	}
	return nil
}
