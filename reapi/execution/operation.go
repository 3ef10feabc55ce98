package execution

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/hearth-build/hearth/cas"
)

// Operation is one request's handle on a run.
type Operation struct {
	name      string
	number    uint64 // counts the Scheduler's operations
	request   *Request
	run       *run
	place     *place // in the queue
	scheduler *Scheduler

	detached bool // it has no say in its run any more; guarded by the Scheduler's mutex

	mu       sync.Mutex // guards what follows; taken before the Scheduler's and the run's, never after
	watchers int
	told     bool   // the outcome was sent once
	final    *State // which never changes again
	// abandoned runs while nobody watches, and lets go of the operation.
	abandoned *time.Timer
}

// Name is unguessable and unique.
func (o *Operation) Name() string { return o.name }

// Number is higher than that of every earlier operation.
func (o *Operation) Number() uint64 { return o.number }

// Action names the action that the run is of.
func (o *Operation) Action() cas.Digest { return o.request.Action }

// Request is what the operation was made for.
func (o *Operation) Request() *Request { return o.request }

// How a watcher is kept informed: a state that is followed by the final one
// within the settle time is not worth a message, and another step of the same
// stage only if it lasts; a watcher to whom nothing happens hears so in time
// before clients give up (REAPI F7).
const (
	settle     = 5 * time.Millisecond
	settleStep = 500 * time.Millisecond
	keepAlive  = 10 * time.Second
)

// Watch calls send with the present state at once, then whenever it changes
// and from time to time in between, and returns nil after the final state was
// sent. A slow watcher misses intermediate states and holds up nobody.
func (o *Operation) Watch(ctx context.Context, send func(State) error) error {
	o.join()
	defer o.leave()
	tick := time.NewTicker(keepAlive)
	defer tick.Stop()
	for {
		state, changed := o.snapshot()
		if err := send(state); err != nil {
			return err
		}
		if state.Done() {
			o.retire()
			return nil
		}
		select {
		case <-changed:
			o.settle(ctx, state)
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// State returns the present state, and is no sign that anybody cares.
func (o *Operation) State() State {
	state, _ := o.snapshot()
	return state
}

// Look returns the present state to the operation's client. An operation at which
// it looks now and then is not given up.
func (o *Operation) Look() State {
	o.join()
	defer o.leave()
	state := o.State()
	if state.Done() {
		o.retire()
	}
	return state
}

// Cancel ends the operation. Its run is ended if no other operation shares it;
// then the operation is done when the run is. One that is done stays as it is.
func (o *Operation) Cancel() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.doneLocked() {
		return
	}
	why := fmt.Errorf("%w: its client asked for that", ErrCancelled)
	if o.scheduler.detach(o, why) {
		state := completed(failed(why))
		o.final = &state
		o.run.wake()
	}
}

// snapshot returns the state, and what is closed when there may be another.
func (o *Operation) snapshot() (State, <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.final != nil {
		return *o.final, nil
	}
	state, changed := o.run.snapshot()
	if state.Done() {
		o.final = &state
	}
	return state, changed
}

// doneLocked reports whether there is a final state.
func (o *Operation) doneLocked() bool {
	if o.final != nil {
		return true
	}
	select {
	case <-o.run.done:
		return true
	default:
		return false
	}
}

// retire notes that the outcome reached its client.
func (o *Operation) retire() {
	o.mu.Lock()
	first := !o.told
	o.told = true
	o.mu.Unlock()
	if first {
		o.scheduler.retire(o)
	}
}

// settle waits a moment for the run to end, after it left the state.
func (o *Operation) settle(ctx context.Context, left State) {
	select {
	case <-o.run.done:
		return
	default:
	}
	moment := settle
	if o.State().Stage() == left.Stage() {
		moment = settleStep
	}
	timer := time.NewTimer(moment)
	defer timer.Stop()
	select {
	case <-o.run.done:
	case <-timer.C:
	case <-ctx.Done():
	}
}

func (o *Operation) join() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.watchers++
	if o.abandoned != nil {
		o.abandoned.Stop()
		o.abandoned = nil
	}
}

func (o *Operation) leave() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.watchers--
	if o.watchers == 0 {
		o.abandonLocked()
	}
}

// abandonLocked starts the time after which an operation that nobody watches is
// forgotten, and its run cancelled if that was the last one.
func (o *Operation) abandonLocked() {
	done := o.doneLocked()
	patience := o.scheduler.opts.OrphanGrace
	if done {
		patience = o.scheduler.opts.Retention
	}
	o.abandoned = time.AfterFunc(patience, func() { o.expire(done) })
}

// expire forgets the operation unless somebody watches it. One that ended only
// while it was abandoned can be asked for from then on as any other (REAPI F14).
func (o *Operation) expire(done bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.watchers > 0:
	case !done && o.doneLocked():
		o.abandonLocked()
	default:
		o.scheduler.forget(o)
	}
}

// drop forgets the operation at once unless somebody watches it.
func (o *Operation) drop() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.watchers > 0 {
		return
	}
	if o.abandoned != nil {
		o.abandoned.Stop()
	}
	o.scheduler.forget(o)
}
