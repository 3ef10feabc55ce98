package tree

import (
	"errors"
	"fmt"
	"strconv"
)

// Whose fault it is. Compare with errors.Is.
var (
	// ErrInvalid: the client sent a Directory or Command that cannot be run.
	ErrInvalid = errors.New("invalid action")
	// ErrOutput: the action left something that cannot be returned.
	ErrOutput = errors.New("unusable output")
)

// InvalidError says what in a Directory graph or Command is malformed. It is
// ErrInvalid to errors.Is.
type InvalidError struct {
	// Subject is what is wrong, such as `directory "a/b"`.
	Subject string
	// Reason says why, and what would be right.
	Reason string
}

// Error implements error.
func (e *InvalidError) Error() string { return e.Subject + " " + e.Reason }

// Is makes an InvalidError an ErrInvalid.
func (e *InvalidError) Is(target error) bool { return target == ErrInvalid }

// OutputError says why an output cannot be returned. It is ErrOutput to
// errors.Is.
type OutputError struct {
	// Path of the culprit, from the input root.
	Path string
	// Reason says what is wrong with it.
	Reason string
}

// Error implements error.
func (e *OutputError) Error() string { return fmt.Sprintf("output %s %s", quote(e.Path), e.Reason) }

// Is makes an OutputError an ErrOutput.
func (e *OutputError) Is(target error) bool { return target == ErrOutput }

// quote makes a string from outside fit for a message: escaped and not too long.
func quote(s string) string {
	const most = 200
	if len(s) <= most {
		return strconv.Quote(s)
	}
	return strconv.Quote(s[:most]) + "..."
}
