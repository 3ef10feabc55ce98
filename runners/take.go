package runners

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// want is what an Acquire looks for.
type want struct {
	key     Key
	recycle bool
	warm    bool // a used runner will do
	tell    func(step Step, why string)
	holds   func(belongings any) int // or nil
	// What a new one would be started as.
	shape   shape
	image   Image
	private bool
}

func (w want) fits(r *runner) bool {
	if r.spare {
		return r.shape == w.shape
	}
	return w.warm && r.key == w.key
}

// waiter is an Acquire for which there was no room.
type waiter struct {
	want
	granted chan *Lease // takes one lease without blocking; closed by Close
}

// take returns a lease of a used runner, perhaps a frozen one, or of a new
// runner that the caller must start.
func (p *Pool) take(ctx context.Context, w want) (*Lease, error) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, ErrClosed
	}
	if w.warm {
		if r := p.bestLocked(w); r != nil {
			lease := p.useLocked(r, w)
			p.mu.Unlock()
			return lease, nil
		}
	}
	if ctx.Err() != nil {
		p.mu.Unlock()
		return nil, context.Cause(ctx)
	}
	if r := p.spareLocked(w); r != nil {
		lease := p.useLocked(r, w)
		p.wantedLocked(w)
		p.mu.Unlock()
		return lease, nil
	}
	if p.counted < p.opts.MaxRunners && len(p.waiters) == 0 {
		lease := p.reserveLocked(w)
		p.wantedLocked(w)
		p.mu.Unlock()
		return lease, nil
	}
	waiting := &waiter{want: w, granted: make(chan *Lease, 1)}
	p.waiters = append(p.waiters, waiting)
	p.evictLocked()
	p.mu.Unlock()
	w.tell(StepWait, fmt.Sprintf("waiting for a runner: there may be %d (--max-runners)", p.opts.MaxRunners))
	return p.wait(ctx, waiting)
}

// wait waits for a runner or for room for one.
func (p *Pool) wait(ctx context.Context, w *waiter) (*Lease, error) {
	select {
	case lease, ok := <-w.granted:
		if !ok {
			return nil, ErrClosed
		}
		if lease.ready {
			return p.activate(lease)
		}
		return lease, nil
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.Index(p.waiters, w); i >= 0 {
		p.waiters = slices.Delete(p.waiters, i, i+1)
	} else if lease, ok := <-w.granted; ok {
		p.giveBackLocked(lease)
	}
	return nil, fmt.Errorf("all %d runners are busy (--max-runners): %w", p.opts.MaxRunners, context.Cause(ctx))
}

// bestLocked finds the runner that holds most of what the action needs; of equal ones
// that which was idle the shortest, whose files and memory are the most likely to be
// cached.
func (p *Pool) bestLocked(w want) (best *runner) {
	most := 0
	for _, r := range slices.Backward(p.idle) {
		if r.spare || !w.fits(r) {
			continue
		}
		if w.holds == nil {
			return r
		}
		if n := w.holds(r.belongings); best == nil || n > most {
			best, most = r, n
		}
	}
	return best
}

// useLocked leases an idle or paused runner, which becomes one of the key that is
// wanted if it is a spare.
func (p *Pool) useLocked(r *runner, w want) *Lease {
	if r.spare {
		p.adoptLocked(r, w)
	}
	p.idle = slices.DeleteFunc(p.idle, func(o *runner) bool { return o == r })
	lease := &Lease{pool: p, r: r, ready: true, freeze: r.freeze}
	r.runs++
	r.period++
	lease.info = LeaseInfo{RunnerID: r.id, Runs: r.runs, Warm: r.runs > 1, WokenFrom: r.state}
	if !lease.info.Warm { // it was a spare until now
		lease.info.ColdReason, lease.info.ColdKind, lease.info.Spare = r.coldReason, r.coldKind, true
	}
	r.become(Busy)
	return lease
}

// reserveLocked makes room for a new runner, whose container is to be started.
func (p *Pool) reserveLocked(w want) *Lease {
	cold := p.coldLocked(w)
	r := p.addLocked()
	r.key, r.recycle, r.coldReason, r.runs = w.key, w.recycle, cold.Reason, 1
	return &Lease{pool: p, r: r, info: LeaseInfo{
		RunnerID: r.id, Runs: 1, ColdReason: cold.Reason, ColdKind: cold.Kind, WokenFrom: Starting,
	}}
}

// giveBackLocked undoes the grant of a lease that nobody waits for any more.
func (p *Pool) giveBackLocked(l *Lease) {
	if l.r.instance == nil {
		l.r.become(Removed)
		p.leaving++
		p.goneLocked(l.r)
		return
	}
	l.r.runs--
	if l.r.runs == 0 { // it was a spare, and nothing else yet
		l.r.spare, l.r.key, l.r.recycle = true, Key{}, false
	}
	p.parkLocked(l.r)
}

// parkLocked gives a busy runner to the waiter whose turn it is, or makes it idle.
func (p *Pool) parkLocked(r *runner) {
	if p.closed {
		p.retireLocked(r, ending{removed, "the pool is shut down"})
		return
	}
	r.become(Idle)
	r.period++
	r.idleSince = time.Now()
	r.freeze, r.measured, r.interval = nil, time.Time{}, 0
	r.lookAt = p.firstLook(r.idleSince)
	p.idle = append(p.idle, r)
	p.weighLocked(r, r.idleSince)
	if len(p.waiters) > 0 {
		p.serveLocked(r)
		return
	}
	if due := p.dueOf(r); due.Before(p.wakeAt) {
		p.nudgeKeeper()
	}
}

// serveLocked gives an idle runner to the first waiter that no removal under
// way makes room for; if it is of no use there it makes room itself.
func (p *Pool) serveLocked(r *runner) {
	if p.leaving < len(p.waiters) && p.waiters[p.leaving].fits(r) {
		w := p.waiters[p.leaving]
		p.waiters = slices.Delete(p.waiters, p.leaving, p.leaving+1)
		spare := r.spare
		w.granted <- p.useLocked(r, w.want)
		if spare {
			p.wantedLocked(w.want)
		}
		return
	}
	p.evictLocked()
}

// evictLocked removes the longest idle runners until there is, or will be,
// room for each waiter, or all that are left are busy.
func (p *Pool) evictLocked() {
	for p.leaving < len(p.waiters) && len(p.idle) > 0 {
		p.retireLocked(p.leastLocked(), ending{evicted, "max-runners is " + strconv.Itoa(p.opts.MaxRunners)})
	}
}

// leastLocked finds the idle runner that is the least loss: a spare, or else the
// longest idle.
func (p *Pool) leastLocked() *runner {
	if i := slices.IndexFunc(p.idle, func(r *runner) bool { return r.spare }); i >= 0 {
		return p.idle[i]
	}
	return p.idle[0]
}

// grantLocked gives free room to those who wait for it.
func (p *Pool) grantLocked() {
	for len(p.waiters) > 0 && p.counted < p.opts.MaxRunners {
		w := p.waiters[0]
		p.waiters = slices.Delete(p.waiters, 0, 1)
		w.granted <- p.reserveLocked(w.want)
	}
}
