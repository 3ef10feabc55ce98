package execution

import (
	"strings"
	"time"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"

	"github.com/hearth-build/hearth/reapi/execution/actionpb"
	"github.com/hearth-build/hearth/runners"
)

// Step is what a run is doing. They are numbered in the order in which a run
// takes them, and documented where clients read of them.
type Step = actionpb.ActionProgress_Phase

// The steps.
const (
	StepAccepted    = actionpb.ActionProgress_ACCEPTED
	StepCacheLookup = actionpb.ActionProgress_CACHE_LOOKUP
	StepQueued      = actionpb.ActionProgress_QUEUED
	StepCheck       = actionpb.ActionProgress_CHECK
	StepImage       = actionpb.ActionProgress_IMAGE
	StepRunner      = actionpb.ActionProgress_RUNNER
	StepInputs      = actionpb.ActionProgress_INPUTS
	StepExecution   = actionpb.ActionProgress_EXECUTION
	StepOutputs     = actionpb.ActionProgress_OUTPUTS
	StepCompleted   = actionpb.ActionProgress_COMPLETED
)

// Progress is what an Executor reports of a run.
type Progress struct {
	Step Step
	// Reason says in words what the run waits for, if it does.
	Reason string
}

// stage is what the API calls a step.
func stage(s Step) repb.ExecutionStage_Value {
	switch {
	case s == StepCacheLookup:
		return repb.ExecutionStage_CACHE_CHECK
	case s < StepCheck:
		return repb.ExecutionStage_QUEUED
	case s < StepCompleted:
		return repb.ExecutionStage_EXECUTING
	default:
		return repb.ExecutionStage_COMPLETED
	}
}

// acquiring is a step of the pool as one of the run's.
func acquiring(step runners.Step, why string) Progress {
	if step == runners.StepImage {
		return Progress{Step: StepImage, Reason: why}
	}
	return Progress{Step: StepRunner, Reason: why}
}

// Phase is the time that a run took for a step.
type Phase struct {
	// Name is the step's, in lower case.
	Name     string
	Start    time.Time
	Duration time.Duration
}

// Timeline is when a run was accepted and when it began its steps. A copy never
// changes.
type Timeline struct {
	// Queued is when the run was accepted.
	Queued time.Time
	// Virtual is the run's duration by the clock that enforced the timeout.
	Virtual time.Duration
	// Cleanup is when the removal of the input root began, which is no part of the
	// upload of the outputs.
	Cleanup time.Time

	marks []mark // only ever appended to
}

// mark is the beginning of a step, and the end of the one before.
type mark struct {
	step Step
	at   time.Time
}

// Enter notes that a step begins.
func (tl *Timeline) Enter(step Step, at time.Time) {
	if n := len(tl.marks); n > 0 && tl.marks[n-1].step == step {
		return // for another reason
	}
	if tl.marks == nil {
		tl.marks = make([]mark, 0, StepCompleted)
	}
	tl.marks = append(tl.marks, mark{step, at})
}

// Phases lists what the run did, in its order: a step that it repeated, since a
// runner was lost, is there several times. What still goes on lasts until now.
func (tl *Timeline) Phases() []Phase {
	phases := make([]Phase, 0, len(tl.marks))
	for i, m := range tl.marks {
		if m.step == StepCompleted {
			break
		}
		end := tl.end(i)
		if end.IsZero() {
			end = time.Now()
		}
		phases = append(phases, Phase{Name: strings.ToLower(m.step.String()), Start: tl.steady(m.at), Duration: end.Sub(m.at)})
	}
	return phases
}

// end is when the step of the i-th mark ended; zero if it has not.
func (tl *Timeline) end(i int) time.Time {
	if i+1 < len(tl.marks) {
		return tl.marks[i+1].at
	}
	return time.Time{}
}

// last is when the run took a step for the last time, from when to when, as far
// as it has.
func (tl *Timeline) last(step Step) (start, end time.Time) {
	for i := len(tl.marks) - 1; i >= 0; i-- {
		if tl.marks[i].step == step {
			return tl.marks[i].at, tl.end(i)
		}
	}
	return time.Time{}, time.Time{}
}

// admitted is when the run was past the queue.
func (tl *Timeline) admitted() time.Time {
	for _, m := range tl.marks {
		if m.step >= StepCheck {
			return m.at
		}
	}
	return time.Time{}
}

// taken counts how often the run took a step.
func (tl *Timeline) taken(step Step) int {
	n := 0
	for _, m := range tl.marks {
		if m.step == step {
			n++
		}
	}
	return n
}

// steady is the time t as the first time of all plus what the monotonic clock
// says, so that a step of the wall clock never makes a phase negative.
func (tl *Timeline) steady(t time.Time) time.Time { return tl.Queued.Add(t.Sub(tl.Queued)) }
