package execution

import (
	"context"
	"log/slog"
	"sync"
	"time"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/runners"
)

// State is what a watcher sees of a run at one time.
type State struct {
	Step Step
	// Since is when the step began.
	Since time.Time
	// Reason says in words what the run waits for, if it does.
	Reason string
	// Wait is where it stands in the queue, if it waits there for long.
	Wait *Wait
	// Timeline so far.
	Timeline Timeline
	// Args are the first arguments of the command, and Runner is the one that it has,
	// once there are any.
	Args   []string
	Runner runners.LeaseInfo
	// Outcome is set when, and only when, the step is StepCompleted.
	Outcome *Outcome
}

// Done reports whether the run has ended.
func (s State) Done() bool { return s.Outcome != nil }

// Stage is what the API calls the step.
func (s State) Stage() repb.ExecutionStage_Value { return stage(s.Step) }

// completed is the last state.
func completed(out *Outcome) State {
	return State{Step: StepCompleted, Since: time.Now(), Outcome: out}
}

// mergeKey says which requests may share a run. The zero key is never shared.
type mergeKey struct {
	tenant, instance, overrides string
	action                      cas.Digest
}

// run is one execution, shared by the operations whose requests were merged.
type run struct {
	task   *Task
	key    mergeKey
	cancel context.CancelCauseFunc
	log    *slog.Logger
	// done is closed after the last state was set.
	done chan struct{}

	mu      sync.Mutex // guards what follows
	state   State
	changed chan struct{} // closed and forgotten when there is news; nil while nobody waits for any
	slow    *time.Timer   // runs between admission and the command, and logs long waits
	logged  time.Time     // when the wait began that was logged last

	// operations that share the run; guarded by the Scheduler's mutex.
	operations int
}

func newRun(task *Task, key mergeKey, log *slog.Logger) *run {
	return &run{
		task:  task,
		key:   key,
		log:   log,
		done:  make(chan struct{}),
		state: State{Step: StepAccepted, Since: task.Timeline.Queued, Timeline: task.Timeline},
	}
}

// snapshot returns the state, and what is closed when there is another.
func (r *run) snapshot() (State, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.changed == nil {
		r.changed = make(chan struct{})
	}
	return r.state, r.changed
}

// fresh reports whether the result will not come from the action cache.
func (r *run) fresh() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.task.SkipCacheLookup || r.state.Step > StepCacheLookup
}

// report is the run's Report; it is called by the run's own goroutine.
func (r *run) report(p Progress) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := State{
		Step: p.Step, Reason: p.Reason, Since: r.state.Since, Timeline: r.task.Timeline, Args: r.task.args, Runner: r.task.runner,
	}
	if p.Step != r.state.Step {
		s.Since = time.Now()
	}
	r.state = s
	r.wakeLocked()
	r.timeLocked()
}

// waits notes why the run waits in the queue. Watchers are woken the first time;
// later they learn of it with the next sign of life.
func (r *run) waits(w Wait) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.state.Step != StepQueued {
		return // it was admitted in the meantime
	}
	first := r.state.Wait == nil
	r.state.Wait = &w
	if first {
		r.wakeLocked()
	}
}

// wake makes the watchers look again.
func (r *run) wake() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wakeLocked()
}

func (r *run) complete(out *Outcome) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state = completed(out)
	r.timeLocked()
	r.wakeLocked()
	close(r.done)
}

func (r *run) wakeLocked() {
	if r.changed != nil {
		close(r.changed)
		r.changed = nil
	}
}

// timeLocked sees to it that a wait which follows admission is logged if it is
// long. The queue sees to those before, the command may take what it likes. One
// timer serves all such steps, since few actions ever need it.
func (r *run) timeLocked() {
	waits := r.waitsLocked()
	switch {
	case waits && r.slow == nil:
		r.slow = time.AfterFunc(longWait, r.checkWait)
	case !waits && r.slow != nil:
		r.slow.Stop()
		r.slow = nil
	}
}

// waitsLocked reports whether the run is between admission and its command.
func (r *run) waitsLocked() bool {
	return r.state.Step >= StepCheck && r.state.Step < StepExecution
}

// checkWait is called by the timer. It logs what is waited for, once, if that has
// lasted so long; else it looks again when it will have.
func (r *run) checkWait() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.waitsLocked() || r.slow == nil {
		return // the step ended as the timer fired
	}
	if rest := longWait - time.Since(r.state.Since); rest > 0 {
		r.slow.Reset(rest)
		return
	}
	r.slow.Reset(longWait)
	if r.logged.Equal(r.state.Since) {
		return
	}
	r.logged = r.state.Since
	r.log.Info("action waits",
		slog.String("action", r.task.ActionDigest.Name()), slog.String("invocation", r.task.Invocation),
		slog.String("step", r.state.Step.String()), slog.String("reason", r.state.Reason))
}
