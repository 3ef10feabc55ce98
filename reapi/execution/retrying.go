package execution

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// retrying runs an action again whose runner was lost or broken.
type retrying struct {
	Executor
	attempts int
}

// WithRetries lets a task's command run up to attempts times while runners are
// lost under it, or while its exit code says that it may end otherwise. A runner that is lost before the command ran in it uses up none
// of them: such a task is tried again after a while, in which the container
// engine may recover, a few times. Nothing else is retried: another failure would
// only happen again.
func WithRetries(base Executor, attempts int) Executor {
	return &retrying{Executor: base, attempts: attempts}
}

// maxStarts is how often it is tried to get a runner in which the command runs.
const maxStarts = 6

// Execute implements Executor.
func (e *retrying) Execute(ctx context.Context, t *Task, report Report) *Outcome {
	runs, starts := 0, 0
	for {
		before := t.Timeline.taken(StepExecution)
		out := e.Executor.Execute(ctx, t, report)
		if !out.again() || ctx.Err() != nil {
			return out
		}
		if t.Timeline.taken(StepExecution) > before {
			if runs++; runs == e.attempts {
				return out.tried(runs)
			}
			// What is broken outside of the runner may take a moment to recover.
			if errors.Is(out.Err, ErrTransient) && !e.pause(ctx, t, report, runs, out.Err) {
				return failed(context.Cause(ctx))
			}
			continue
		}
		if starts++; starts == maxStarts {
			out.Err = fmt.Errorf("%w (it was tried %d times to get a runner)", out.Err, starts)
			return out
		}
		if !e.pause(ctx, t, report, starts, out.Err) {
			return failed(context.Cause(ctx))
		}
	}
}

// pause waits longer each time, and reports false if ctx ends before that.
func (e *retrying) pause(ctx context.Context, t *Task, report Report, tries int, why error) bool {
	pause := 100 * time.Millisecond
	for range tries - 1 {
		pause *= 3
	}
	t.Enter(report, Progress{Step: StepRunner, Reason: fmt.Sprintf("trying again in %v: %v", pause, why)})
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
