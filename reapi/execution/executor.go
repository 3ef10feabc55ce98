package execution

import (
	"context"
	"errors"

	"github.com/hearth-build/hearth/cas"
)

// Executor takes a task to its outcome. It never returns nil, and when it
// returns nothing of the run is going on any more. Decorators embed or wrap
// another Executor. Safe for concurrent use with different tasks.
type Executor interface {
	Execute(ctx context.Context, t *Task, report Report) *Outcome
}

// Report tells watchers what the run is doing now; Task.Enter also notes the
// time. It is cheap.
type Report func(Progress)

// missing makes any not-found error name the blob, so that the client hears
// what to upload.
func missing(d cas.Digest, err error) error {
	var known *cas.MissingError
	if errors.Is(err, cas.ErrNotFound) && !errors.As(err, &known) {
		return &cas.MissingError{Digests: []cas.Digest{d}}
	}
	return err
}
