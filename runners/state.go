package runners

import "fmt"

// State is where a runner is in its life.
type State int

// The states of a runner.
const (
	// Starting: its container is being made.
	Starting State = iota
	// Busy: it is leased to an action.
	Busy
	// Idle: it waits for an action, its processes can run.
	Idle
	// Paused: it waits for an action, its processes are frozen.
	Paused
	// Removed: it is never used again; its container may not be gone yet.
	Removed
)

// String implements fmt.Stringer.
func (s State) String() string {
	switch s {
	case Starting:
		return "starting"
	case Busy:
		return "busy"
	case Idle:
		return "idle"
	case Paused:
		return "paused"
	case Removed:
		return "removed"
	default:
		return fmt.Sprintf("state %d", int(s))
	}
}

// canBecome is the whole state machine.
func (s State) canBecome(next State) bool {
	switch next {
	case Busy:
		return s == Starting || s == Idle || s == Paused
	case Idle:
		return s == Busy || s == Starting // a spare
	case Paused:
		return s == Idle
	case Removed:
		return s != Removed
	default:
		return false
	}
}
