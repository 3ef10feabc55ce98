package execution

import (
	"context"
	"fmt"
	"sync"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
)

// Slots admits as many runs at a time as the machine has CPU slots.
type Slots struct {
	total, maxQueued int

	mu      sync.Mutex // guards what follows, and the tickets' places
	free    int
	waiting queue
}

// NewSlots returns total slots, for which at most maxQueued runs may wait.
func NewSlots(total, maxQueued int) (*Slots, error) {
	if total < 1 || maxQueued < 1 {
		return nil, fmt.Errorf("slots is %d and max-queued %d: both must be at least 1", total, maxQueued)
	}
	return &Slots{total: total, free: total, maxQueued: maxQueued}, nil
}

// enter gets a ticket, which may be admitted already.
func (s *Slots) enter(t *ticket) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.free > 0 {
		s.free--
		close(t.admitted)
		return nil
	}
	if s.waiting.len() >= s.maxQueued {
		return fmt.Errorf("%w: %d actions are waiting already; try again later", ErrQueueFull, s.maxQueued)
	}
	s.waiting.add(t)
	return nil
}

// wait returns when t is admitted; after an error it is not and will not be.
func (s *Slots) wait(ctx context.Context, t *ticket) error {
	select {
	case <-t.admitted:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	if t.index >= 0 {
		s.waiting.remove(t)
		s.mu.Unlock()
		return context.Cause(ctx)
	}
	s.mu.Unlock()
	s.leave() // it was admitted at the same time
	return context.Cause(ctx)
}

// leave gives a slot to whoever is next.
func (s *Slots) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting.len() > 0 {
		close(s.waiting.next().admitted)
		return
	}
	s.free++
}

// raise makes a ticket more urgent, if it still waits.
func (s *Slots) raise(t *ticket, priority int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting.raise(t, priority)
}

// load counts the admitted and the waiting runs.
func (s *Slots) load() (running, queued int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.total - s.free, s.waiting.len()
}

func newTicket(priority int32) *ticket {
	return &ticket{priority: priority, index: -1, admitted: make(chan struct{})}
}

// admitted holds runs back until there is a slot for them.
type admitted struct {
	Executor
	slots *Slots
}

// WithAdmission lets base run only as many tasks at a time as there are slots.
func WithAdmission(base Executor, slots *Slots) Executor {
	return &admitted{Executor: base, slots: slots}
}

// Execute implements Executor.
func (e *admitted) Execute(ctx context.Context, t *Task, report Report) *Outcome {
	if err := e.slots.enter(t.ticket); err != nil {
		return failed(err)
	}
	select {
	case <-t.ticket.admitted:
	default:
		report(repb.ExecutionStage_QUEUED)
	}
	if err := e.slots.wait(ctx, t.ticket); err != nil {
		return failed(err)
	}
	defer e.slots.leave()
	report(repb.ExecutionStage_EXECUTING)
	return e.Executor.Execute(ctx, t, report)
}
