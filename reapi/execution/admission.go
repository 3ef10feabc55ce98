package execution

import "context"

// admitted holds runs back until there is room for them.
type admitted struct {
	Executor
	slots *Slots
}

// WithAdmission lets base run only as many tasks at a time as there is room for,
// and fails those at once for which there will never be.
func WithAdmission(base Executor, slots *Slots) Executor {
	return &admitted{Executor: base, slots: slots}
}

// Execute implements Executor.
func (e *admitted) Execute(ctx context.Context, t *Task, report Report) *Outcome {
	if t.Assigned.room() != nil {
		return e.Executor.Execute(ctx, t, report)
	}
	if err := e.enter(ctx, t, report); err != nil {
		return failed(err)
	}
	defer e.slots.leave(t.ticket)
	return e.Executor.Execute(ctx, t, report)
}

// enter returns when the task is admitted.
func (e *admitted) enter(ctx context.Context, t *Task, report Report) (err error) {
	if t.ticket.needs, err = e.slots.needs(t.estimates()); err != nil {
		return err
	}
	atOnce, err := e.slots.enter(t.ticket)
	if err != nil || atOnce {
		return err
	}
	t.Enter(report, Progress{Step: StepQueued})
	t.command = nil // read again when it is its turn: thousands may wait
	return e.slots.wait(ctx, t.ticket)
}
