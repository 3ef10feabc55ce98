package execution

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/hearth-build/hearth/runners"
)

// SlotsOptions say what there is to admit runs to.
type SlotsOptions struct {
	// Total is what all runs share.
	Total Resources
	// MaxQueued is how many runs may wait.
	MaxQueued int
	// Logger is told of runs that wait for long. Default: none.
	Logger *slog.Logger
}

// Slots admits as many runs at a time as the machine can take.
//
// The run whose turn it is starts as soon as there is room for it. While there
// is not, whatever is freed is kept for it, and others may start only beside it:
// with what would be left if it ran already. So it waits for no run but those
// that ran when its turn came, however many small ones arrive.
type Slots struct {
	opts SlotsOptions
	// common is what an action needs that does not say.
	common Resources

	mu       sync.Mutex // guards what follows, the tickets and their places
	free     Resources
	running  int
	draining bool
	queue    queue
	next     *ticket   // whose turn it is, and for which there is no room yet
	turns    uint64    // counts the times that next was set
	beside   Resources // what those use that started beside next in this turn
	watch    *time.Timer
}

// modestMemory is what an action that does not say is expected to use, where the
// machine has so much for each CPU.
const modestMemory = 256 << 20

// NewSlots checks the options.
func NewSlots(opts SlotsOptions) (*Slots, error) {
	err := opts.Total.Validate()
	if opts.MaxQueued < 1 {
		err = errors.Join(err, fmt.Errorf("max-queued is %d: it must be at least 1", opts.MaxQueued))
	}
	if err != nil {
		return nil, err
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	// Each CPU, and each runner, can be used by an action that says nothing.
	cpu := min(1000, opts.Total.MilliCPU)
	atATime := min(opts.Total.MilliCPU/cpu, opts.Total.Runners)
	return &Slots{
		opts:   opts,
		free:   opts.Total,
		common: Resources{MilliCPU: cpu, Memory: max(1, min(modestMemory, opts.Total.Memory/atATime)), Runners: 1},
	}, nil
}

// needs is what an action needs, or an ErrPlatform if there will never be so much.
func (s *Slots) needs(e runners.Estimates) (Resources, error) {
	need := estimated(e, s.common)
	if differences := s.opts.Total.beyond(need, e); len(differences) > 0 {
		return Resources{}, runners.Unmatched(differences...)
	}
	return need, nil
}

// join gives a ticket, which may or may not wait already, one more place.
func (s *Slots) join(t *ticket, p *place) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queue.join(t, p)
	s.dispatch()
}

// withdraw takes a place from a ticket.
func (s *Slots) withdraw(t *ticket, p *place) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queue.leave(t, p)
}

// enter makes a ticket wait, unless it can be admitted at once, which it reports.
func (s *Slots) enter(t *ticket) (atOnce bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t.since = time.Now()
	if !s.draining && s.next == nil && s.free.holds(t.needs) {
		s.admit(t)
		return true, nil
	}
	if s.draining && s.running == 0 {
		return false, ErrDraining
	}
	if s.waiting() >= s.opts.MaxQueued {
		return false, fmt.Errorf("%w: %d actions are waiting already; try again later", ErrQueueFull, s.opts.MaxQueued)
	}
	s.queue.add(t)
	s.dispatch()
	if !t.settled && s.watch == nil {
		s.watch = time.AfterFunc(lookInterval, s.look)
	}
	return t.settled, nil
}

// wait returns when t is admitted; after an error it is not and will not be.
func (s *Slots) wait(ctx context.Context, t *ticket) error {
	select {
	case <-t.admitted:
		return t.err
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.abandon(t)
	return context.Cause(ctx)
}

// abandon makes a ticket one that waits no longer and uses nothing.
func (s *Slots) abandon(t *ticket) {
	switch {
	case t == s.next:
		s.next = nil
		s.dispatch()
	case t.inLine:
		s.queue.remove(t)
	case t.err == nil:
		s.release(t) // it was admitted at the same time
	}
}

// leave gives back what an admitted run used.
func (s *Slots) leave(t *ticket) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.release(t)
}

func (s *Slots) release(t *ticket) {
	s.free = s.free.plus(t.needs)
	s.running--
	if t.beside == s.turns {
		s.beside = s.beside.minus(t.needs)
	}
	if s.draining && s.running == 0 {
		s.sendAway()
	}
	s.dispatch()
}

// drain lets no more runs start. When none runs any more, those that wait are
// told that the server is shutting down.
func (s *Slots) drain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.draining = true
	if s.running == 0 {
		s.sendAway()
	}
}

func (s *Slots) sendAway() {
	for s.choose() {
		s.settle(s.next, ErrDraining)
		s.next = nil
	}
}

// dispatch admits whom it can.
func (s *Slots) dispatch() {
	if s.draining {
		return
	}
	for s.choose() {
		if !s.free.holds(s.next.needs) {
			s.backfill()
			return
		}
		t := s.next
		s.next = nil
		s.admit(t)
	}
}

// choose finds whose turn it is; there may be nobody.
func (s *Slots) choose() bool {
	if s.next != nil && s.queue.len() > 0 && s.queue.first().priority < s.next.urgency() {
		s.queue.putBack(s.next)
		s.next = nil
	}
	if s.next == nil && s.queue.len() > 0 {
		s.next, s.beside = s.queue.take(s.queue.first()), Resources{}
		s.turns++
	}
	return s.next != nil
}

// lookAhead bounds the search for runs that can start beside the next one.
const lookAhead = 256

// backfill admits those for which there is room beside the next one.
func (s *Slots) backfill() {
	for !s.free.exhausted() {
		p := s.besideNext()
		if p == nil {
			return
		}
		t := s.queue.take(p)
		t.beside = s.turns
		s.beside = s.beside.plus(t.needs)
		s.admit(t)
	}
}

// besideNext finds the first place whose ticket has room now and will have it
// when the next one runs, too.
func (s *Slots) besideNext() *place {
	room := s.opts.Total.minus(s.next.needs).minus(s.beside)
	looked := 0
	for p := range s.queue.all() {
		if s.free.holds(p.ticket.needs) && room.holds(p.ticket.needs) {
			return p
		}
		if looked++; looked == lookAhead {
			break
		}
	}
	return nil
}

func (s *Slots) admit(t *ticket) {
	s.free = s.free.minus(t.needs)
	s.running++
	s.settle(t, nil)
}

func (s *Slots) settle(t *ticket, err error) {
	t.err, t.settled = err, true
	close(t.admitted)
}

// waiting counts the runs that wait.
func (s *Slots) waiting() int {
	if s.next != nil {
		return s.queue.len() + 1
	}
	return s.queue.len()
}

// load counts the admitted and the waiting runs, and says how much the admitted use.
func (s *Slots) load() (running, queued int, busy float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.running, s.waiting(), s.free.used(s.opts.Total)
}
