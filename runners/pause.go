package runners

import (
	"context"
	"errors"
	"slices"
	"time"
)

const (
	// burning is the share of one CPU above which an idle runner is worth
	// pausing, measured over at least minWindow, after looks that grow to
	// maxInterval apart.
	burning     = 0.01
	minWindow   = time.Second
	maxInterval = time.Minute
	// lookTimeout bounds what is done to an idle runner.
	lookTimeout = 10 * time.Second
	// wakeTimeout bounds how long a taker waits for a frozen runner.
	wakeTimeout = 5 * time.Second
	// never is when a keeper with nothing to do wakes.
	never = 24 * time.Hour
)

// keep is the one goroutine that minds the time of all idle runners. Nothing
// is started or stopped when one becomes idle or busy: to take a runner cancels
// its pause since it is not idle any more when the keeper looks.
func (p *Pool) keep() {
	timer := time.NewTimer(never)
	defer timer.Stop()
	for {
		p.relieve()
		timer.Reset(time.Until(p.tend()))
		select {
		case <-timer.C:
		case <-p.nudge:
		case <-p.work().Done():
			return
		}
	}
}

func (p *Pool) nudgeKeeper() {
	select {
	case p.nudge <- struct{}{}:
	default:
	}
}

// tend does what is due and returns when the next thing is.
func (p *Pool) tend() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	p.wakeAt = now.Add(never)
	if p.closed {
		return p.wakeAt
	}
	for _, r := range slices.Clone(p.idle) {
		if r.spare && !now.Before(p.spareExpires(r)) || !r.spare && now.Sub(r.idleSince) >= p.opts.IdleTimeout {
			p.retireLocked(r, ending{expired, "idle for " + p.opts.IdleTimeout.String()})
			continue
		}
		if p.replaceIfSpentLocked(r, now) {
			continue
		}
		if r.canLook() && !now.Before(r.lookAt) {
			r.looking = true
			period := r.period
			p.spawnLocked(func() { p.look(r, period) })
		}
		if due := p.dueOf(r); due.Before(p.wakeAt) {
			p.wakeAt = due
		}
	}
	if len(p.idle) > 0 && p.memoryAt.Before(p.wakeAt) {
		p.wakeAt = p.memoryAt
	}
	return p.wakeAt
}

// canLook: when a look ends it says when the next is due, and wakes the keeper.
func (r *runner) canLook() bool { return r.state == Idle && !r.looking && !r.lookAt.IsZero() }

// dueOf is when the keeper must mind an idle runner.
func (p *Pool) dueOf(r *runner) time.Time {
	expires := r.idleSince.Add(p.opts.IdleTimeout)
	if r.spare {
		expires = p.spareExpires(r)
	}
	if age := p.opts.Limits.Age; age > 0 && r.created.Add(age).Before(expires) {
		expires = r.created.Add(age)
	}
	if r.canLook() && r.lookAt.Before(expires) {
		return r.lookAt
	}
	return expires
}

// firstLook is when a runner that became idle is looked at. The adaptive
// policy measures twice, so the first time is well before the delay is over.
func (p *Pool) firstLook(idleSince time.Time) time.Time {
	switch p.opts.Pause {
	case PauseAlways:
		return idleSince.Add(p.opts.pauseDelay())
	case PauseAdaptive:
		return idleSince.Add(p.opts.pauseDelay() / 5)
	default:
		return time.Time{}
	}
}

// look pauses an idle runner or decides when to look again.
func (p *Pool) look(r *runner, period int) {
	defer p.nudgeKeeper()
	ctx, cancel := context.WithTimeout(p.work(), lookTimeout)
	defer cancel()
	// Where everything is paused the time itself, or that it cannot be read, is no matter.
	cpu, err := r.instance.CPUTime(ctx)
	if errors.Is(err, ErrNoCgroup) {
		p.lookNoMore(r, period)
		return
	}
	if p.opts.Pause == PauseAdaptive && !p.judge(r, period, cpu, err) {
		return
	}
	f := p.beginFreeze(r, period)
	if f == nil {
		return
	}
	err = r.instance.Freeze(ctx)
	p.endFreeze(r, period, f, err)
}

// lookNoMore leaves a runner alone that cannot be paused.
func (p *Pool) lookNoMore(r *runner, period int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r.looking = false
	if r.period == period {
		r.lookAt = time.Time{}
	}
}

// judge reports whether a runner that has used cpu so far is to be paused now.
func (p *Pool) judge(r *runner, period int, cpu time.Duration, err error) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r.period != period {
		r.looking = false
		return false
	}
	if err != nil {
		r.looking = false
		p.doubtLocked(r, "its CPU time could not be read", err)
		return false
	}
	r.footprint.CPU = cpu
	now := time.Now()
	used, window := cpu-r.cpu, now.Sub(r.measured)
	first := r.measured.IsZero()
	if !first && float64(used) > burning*float64(window) {
		return true
	}
	r.cpu, r.measured = cpu, now
	r.looking = false
	if first {
		r.lookAt = later(r.idleSince.Add(p.opts.pauseDelay()), now.Add(minWindow))
		return false
	}
	r.interval = min(max(2*r.interval, p.opts.pauseDelay(), minWindow), maxInterval)
	r.lookAt = now.Add(r.interval)
	return false
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// beginFreeze claims the runner for a Freeze, unless it was taken meanwhile.
// From here on a taker waits for the Freeze and undoes it.
func (p *Pool) beginFreeze(r *runner, period int) *freezing {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r.period != period {
		r.looking = false
		return nil
	}
	r.freeze = &freezing{done: make(chan struct{})}
	return r.freeze
}

func (p *Pool) endFreeze(r *runner, period int, f *freezing, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r.looking = false
	f.err = err
	close(f.done)
	switch {
	case r.period != period: // its taker, or its removal, sees to it
	case err != nil:
		p.doubtLocked(r, "it could not be paused", err)
	default:
		r.become(Paused)
		p.counts.Paused++
	}
}

func (p *Pool) doubtLocked(r *runner, what string, err error) {
	p.retireLocked(r, ending{discarded, what + ": " + err.Error()})
}

// wake thaws the runner of a lease. If that fails, or takes too long, the
// runner is dropped.
func (p *Pool) wake(ctx context.Context, l *Lease) error {
	ctx, cancel := context.WithTimeoutCause(ctx, wakeTimeout, errSlowToWake)
	defer cancel()
	err := p.thaw(ctx, l)
	if err != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.doubtLocked(l.r, "it could not be woken", err)
		return err
	}
	l.info.WokenFrom = Paused
	return nil
}

var errSlowToWake = errors.New("it took more than " + wakeTimeout.String())

// thaw calls the backend in a goroutine of the pool: one that hangs must not
// hold up the taker.
func (p *Pool) thaw(ctx context.Context, l *Lease) error {
	select {
	case <-l.freeze.done:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if l.freeze.err != nil {
		return l.freeze.err
	}
	thawed := make(chan error, 1)
	if !p.spawn(func() { thawed <- l.r.instance.Thaw(ctx) }) {
		return ErrClosed
	}
	select {
	case err := <-thawed:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
