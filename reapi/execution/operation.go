package execution

import (
	"context"
	"sync"
	"time"

	"github.com/hearth-build/hearth/cas"
)

// Operation is one request's handle on a run.
type Operation struct {
	name      string
	request   *Request
	run       *run
	scheduler *Scheduler

	mu       sync.Mutex // guards what follows; taken before the Scheduler's, never after
	watchers int
	told     bool // the outcome was sent once
	// abandoned runs while nobody watches, and lets go of the operation.
	abandoned *time.Timer
}

// Name is unguessable and unique.
func (o *Operation) Name() string { return o.name }

// Action names the action that the run is of.
func (o *Operation) Action() cas.Digest { return o.request.Action }

// Request is what the operation was made for.
func (o *Operation) Request() *Request { return o.request }

// How a watcher is kept informed: a state that is followed by the final one
// within the settle time is not worth a message; a watcher to whom nothing
// happens hears so in time before clients give up (REAPI F7).
const (
	settle    = 5 * time.Millisecond
	keepAlive = 10 * time.Second
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
		state, changed := o.run.snapshot()
		if err := send(state); err != nil {
			return err
		}
		if state.Done() {
			o.retire()
			return nil
		}
		select {
		case <-changed:
			o.settle(ctx)
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
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

// settle waits a moment for the run to end.
func (o *Operation) settle(ctx context.Context) {
	select {
	case <-o.run.done:
		return
	default:
	}
	timer := time.NewTimer(settle)
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

// leave starts the time after which an operation that nobody watches is
// forgotten, and its run cancelled if that was the last one.
func (o *Operation) leave() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.watchers--
	if o.watchers == 0 {
		o.abandoned = time.AfterFunc(o.patience(), o.drop)
	}
}

// patience is how long the operation is kept without a watcher.
func (o *Operation) patience() time.Duration {
	select {
	case <-o.run.done:
		return o.scheduler.opts.Retention
	default:
		return o.scheduler.opts.OrphanGrace
	}
}

// drop forgets the operation unless somebody watches it.
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
