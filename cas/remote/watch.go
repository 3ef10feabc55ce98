package remote

import (
	"context"
	"time"
)

// watch cancels the context of a stream when a step on it takes too long. A
// consumer may take its time between the steps.
type watch struct {
	patience time.Duration
	timer    *time.Timer
}

func newWatch(patience time.Duration, cancel context.CancelCauseFunc) *watch {
	w := &watch{patience: patience, timer: time.AfterFunc(patience, func() { cancel(errStalled) })}
	w.timer.Stop()
	return w
}

// step does f, which ends early with the context.
func (w *watch) step(ctx context.Context, f func() error) error {
	w.timer.Reset(w.patience)
	err := f()
	w.timer.Stop()
	if err != nil && context.Cause(ctx) == errStalled {
		return errStalled
	}
	return err
}
