package execution

import (
	"context"
	"errors"
	"fmt"

	"github.com/hearth-build/hearth/cas"
)

// caching answers from the action cache where the request allows it, and puts
// good results there.
type caching struct{ Executor }

// WithCaching looks results up in the action cache of the task's instance
// before it lets base run anything.
func WithCaching(base Executor) Executor { return &caching{base} }

// Execute implements Executor.
func (e *caching) Execute(ctx context.Context, t *Task, report Report) *Outcome {
	if !t.SkipCacheLookup && !t.Action.GetDoNotCache() {
		t.Enter(report, Progress{Step: StepCacheLookup})
		result, err := t.Instance.Results.Get(ctx, t.ActionDigest)
		switch {
		case err == nil && result.GetExitCode() == 0:
			return &Outcome{Result: result, Cached: true}
		case err != nil && !errors.Is(err, cas.ErrNotFound):
			return failed(fmt.Errorf("look up the action cache: %w", err))
		}
	}
	out := e.Executor.Execute(ctx, t, report)
	if !cacheable(t, out) {
		return out
	}
	if err := t.Instance.Results.Put(ctx, t.ActionDigest, out.Result); err != nil {
		// The result is good all the same; the next run will find no entry.
		out.Message = joinMessages(out.Message, fmt.Sprintf("The result could not be put into the action cache: %v.", err))
	}
	return out
}

func cacheable(t *Task, out *Outcome) bool {
	return out.Err == nil && out.Result != nil && !out.Cached &&
		out.Result.GetExitCode() == 0 && !t.Action.GetDoNotCache()
}

func joinMessages(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + "\n" + b
}
