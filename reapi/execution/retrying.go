package execution

import (
	"context"
	"errors"
	"fmt"

	"github.com/hearth-build/hearth/runners"
)

// retrying runs an action again whose runner was lost.
type retrying struct {
	Executor
	attempts int
}

// WithRetries tries a task up to attempts times while runners are lost under
// it. Nothing else is retried: another failure would only happen again.
func WithRetries(base Executor, attempts int) Executor {
	return &retrying{Executor: base, attempts: attempts}
}

// Execute implements Executor.
func (e *retrying) Execute(ctx context.Context, t *Task, report Report) *Outcome {
	for attempt := 1; ; attempt++ {
		out := e.Executor.Execute(ctx, t, report)
		if !errors.Is(out.Err, runners.ErrLost) || ctx.Err() != nil {
			return out
		}
		if attempt == e.attempts {
			out.Err = fmt.Errorf("%w (tried %d times)", out.Err, attempt)
			return out
		}
	}
}
