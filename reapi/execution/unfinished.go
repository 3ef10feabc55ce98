package execution

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/runners"
)

// Unfinished is what there is to say about a run that goes on, for people: when it
// has ended, a Finished takes its place.
type Unfinished struct {
	Action           cas.Digest
	Instance, Tenant string
	// Invocation, Mnemonic and Target are what the client calls its build and the action.
	Invocation, Mnemonic, Target string
	// Operation is the name of the first operation that the run was started for.
	Operation string
	// Args are the first arguments of the command, once it was read.
	Args   []string
	Queued time.Time
	// Step is what it does, Since when, and Reason what it waits for, if it does.
	Step   Step
	Since  time.Time
	Reason string
	// Wait is where it stands, as long as it waits to be admitted.
	Wait *Wait
	// Phases so far, the last of which goes on.
	Phases []Phase
	// Runner is the one that it has, with the zero ID if it has none yet.
	Runner runners.LeaseInfo

	run *run
}

// Why says what it waits for, if it does.
func (u *Unfinished) Why() string {
	if u.Wait != nil {
		return u.Wait.String()
	}
	return u.Reason
}

// Log is what it prints, once it does.
func (u *Unfinished) Log(stream Stream) (*Log, bool) {
	ids := u.run.task.logs.Load()
	if ids == nil {
		return nil, false
	}
	id := ids.Stdout
	if stream == Stderr {
		id = ids.Stderr
	}
	return u.run.task.Instance.Logs.Find(id)
}

// Stream is one of the two that a command prints to.
type Stream string

// The streams.
const (
	Stdout Stream = "stdout"
	Stderr Stream = "stderr"
)

// Unfinished describes the runs that go on and are wanted: those that were admitted,
// the oldest first, then those that wait, by their turns.
func (s *Scheduler) Unfinished(wanted func(*Unfinished) bool) []*Unfinished {
	s.mu.Lock()
	runs := map[*run]bool{}
	for _, op := range s.operations {
		runs[op.run] = true
	}
	s.mu.Unlock()
	waits := s.slots.waits()
	var found []*Unfinished
	for r := range runs {
		u := r.describe()
		if wait, ok := waits[r.task.ticket]; ok {
			u.Wait = &wait
		}
		if u.Step != StepCompleted && wanted(u) {
			found = append(found, u)
		}
	}
	slices.SortFunc(found, func(a, b *Unfinished) int {
		return cmp.Or(cmp.Compare(a.position(), b.position()), a.Queued.Compare(b.Queued), strings.Compare(a.Operation, b.Operation))
	})
	return found
}

// position is 0 for a run that does not wait to be admitted.
func (u *Unfinished) position() int {
	if u.Wait == nil {
		return 0
	}
	return u.Wait.Position
}

func (r *run) describe() *Unfinished {
	r.mu.Lock()
	s := r.state
	r.mu.Unlock()
	t := r.task
	return &Unfinished{
		Action: t.ActionDigest, Instance: t.Instance.Name, Tenant: t.Tenant,
		Invocation: t.Invocation, Mnemonic: t.Mnemonic, Target: t.Target, Operation: t.Operation,
		Args: s.Args, Queued: s.Timeline.Queued, Step: s.Step, Since: s.Since, Reason: s.Reason,
		Phases: s.Timeline.Phases(), Runner: s.Runner, run: r,
	}
}
