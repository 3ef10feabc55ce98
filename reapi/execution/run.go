package execution

import (
	"context"
	"sync"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"

	"github.com/hearth-build/hearth/cas"
)

// State is what a watcher sees of a run at one time.
type State struct {
	Stage repb.ExecutionStage_Value
	// Outcome is set when, and only when, the stage is COMPLETED.
	Outcome *Outcome
}

// Done reports whether the run has ended.
func (s State) Done() bool { return s.Outcome != nil }

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
	// done is closed after the last state was set.
	done chan struct{}

	mu      sync.Mutex // guards state and changed
	state   State
	changed chan struct{} // closed and replaced when state changes

	// operations that share the run; guarded by the Scheduler's mutex.
	operations int
}

func newRun(task *Task, key mergeKey, cancel context.CancelCauseFunc) *run {
	return &run{
		task:    task,
		key:     key,
		cancel:  cancel,
		done:    make(chan struct{}),
		state:   State{Stage: repb.ExecutionStage_QUEUED},
		changed: make(chan struct{}),
	}
}

func (r *run) snapshot() (State, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.state, r.changed
}

func (r *run) report(stage repb.ExecutionStage_Value) { r.set(State{Stage: stage}) }

func (r *run) complete(out *Outcome) {
	r.set(State{Stage: repb.ExecutionStage_COMPLETED, Outcome: out})
	close(r.done)
}

func (r *run) set(s State) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state = s
	close(r.changed)
	r.changed = make(chan struct{})
}
