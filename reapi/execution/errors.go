package execution

import (
	"errors"
	"fmt"
)

// How a request or a run can fail, beside the errors of cas, cas/tree and
// runners, which pass through. Compare with errors.Is.
var (
	// ErrInvalid: the action or command is malformed.
	ErrInvalid = errors.New("invalid action")
	// ErrTimeout: the command ran longer than its timeout; the result is partial.
	ErrTimeout = errors.New("action timed out")
	// ErrTransient: the command said that it may succeed the next time; the result
	// is of the last try.
	ErrTransient = errors.New("transient error")
	// ErrCancelled: nobody wants the result any more.
	ErrCancelled = errors.New("action cancelled")
	// ErrQueueFull: there are too many actions waiting.
	ErrQueueFull = errors.New("action queue is full")
	// ErrDraining: the server is shutting down.
	ErrDraining = errors.New("server is shutting down")
	// ErrOutputLimit: the command printed more than the server keeps.
	ErrOutputLimit = errors.New("output limit exceeded")
)

func invalidf(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, args...))
}
