package runners

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"
)

const (
	// removeTimeout bounds one attempt to remove a runner, lastTimeout the one
	// that is left when Close's own deadline has passed.
	removeTimeout = time.Minute
	lastTimeout   = 10 * time.Second
	// removeAttempts are made before a runner that cannot be removed ceases to
	// take up room. Later attempts are maxRetryDelay apart.
	removeAttempts = 5
	minRetryDelay  = time.Second
	maxRetryDelay  = time.Minute
)

// retireLocked takes a runner out of use and removes it in the background.
func (p *Pool) retireLocked(r *runner, why ending) {
	if r.state == Removed {
		return
	}
	p.idle = slices.DeleteFunc(p.idle, func(o *runner) bool { return o == r })
	r.become(Removed)
	r.period++
	p.leaving++
	p.counts.Ended[string(why.verb)]++
	remember := &p.singles
	if r.recycle {
		remember = &p.history
	}
	now := time.Now()
	remember.add(gone{info: r.infoLocked(now), key: r.key, when: now, ending: why})
	p.spawnLocked(func() { p.remove(r, why) })
}

// remove tries until the runner is gone or the pool gives up.
func (p *Pool) remove(r *runner, why ending) {
	level := slog.LevelDebug
	if why.verb == discarded {
		level = slog.LevelWarn
	}
	p.log.Log(context.Background(), level, "runner "+string(why.verb), "runner", r.id, "reason", why.why)
	delay := minRetryDelay
	instanceGone := false
	for attempt := 1; ; attempt++ {
		err, last := p.tryRemove(r, &instanceGone)
		if err == nil || last {
			p.gone(r, err)
			return
		}
		p.log.Error("a runner could not be removed; trying again", "runner", r.id, "dir", r.dir, "attempt", attempt, "error", err)
		if attempt == removeAttempts {
			p.uncount(r)
		}
		p.waitBeforeRetry(delay)
		delay = min(2*delay, maxRetryDelay)
	}
}

// tryRemove makes one attempt; the last is made when Close waits no longer.
func (p *Pool) tryRemove(r *runner, instanceGone *bool) (err error, last bool) {
	ctx, cancel := context.WithTimeout(p.cleaning(), removeTimeout)
	if last = p.cleaning().Err() != nil; last {
		cancel()
		ctx, cancel = context.WithTimeout(context.Background(), lastTimeout)
	}
	defer cancel()
	p.awaitFreeze(ctx, r)
	if !*instanceGone {
		if err := r.instance.Remove(ctx); err != nil {
			return fmt.Errorf("remove container %s: %w", r.id, err), last
		}
		*instanceGone = true
	}
	return RemoveTree(r.dir), last
}

// awaitFreeze keeps a removal and a Freeze under way from meeting.
func (p *Pool) awaitFreeze(ctx context.Context, r *runner) {
	p.mu.Lock()
	f := r.freeze
	p.mu.Unlock()
	if f == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, wakeTimeout)
	defer cancel()
	select {
	case <-f.done:
	case <-ctx.Done():
	}
}

// waitBeforeRetry is short when the pool is being closed, and ends when Close
// waits no longer.
func (p *Pool) waitBeforeRetry(delay time.Duration) {
	select {
	case <-time.After(delay):
		return
	case <-p.work().Done():
	}
	select {
	case <-time.After(minRetryDelay):
	case <-p.cleaning().Done():
	}
}

// uncount lets another runner have the room of one that cannot be removed.
func (p *Pool) uncount(r *runner) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.uncountLocked(r)
	p.grantLocked()
}

func (p *Pool) uncountLocked(r *runner) {
	if r.counted {
		r.counted = false
		p.counted--
		p.leaving--
	}
}

// gone is called when a runner was removed, or with why it never will be.
func (p *Pool) gone(r *runner, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		p.stuck = append(p.stuck, err)
	}
	p.goneLocked(r)
}

// goneLocked forgets a removed runner and uses its room.
func (p *Pool) goneLocked(r *runner) {
	delete(p.runners, r.id)
	p.uncountLocked(r)
	p.grantLocked()
	p.checkDrainedLocked()
}
