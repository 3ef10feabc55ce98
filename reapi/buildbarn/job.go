package buildbarn

import (
	"context"
	"sync"
	"sync/atomic"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"github.com/buildbarn/bb-remote-execution/pkg/proto/remoteworker"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/hearth-build/hearth/reapi/execution"
)

// job is an action that a slot was given. Its goroutine ends with done, which the
// slot waits for.
type job struct {
	cancel context.CancelCauseFunc
	digest *repb.Digest
	news   chan struct{} // holds one when there is something to tell
	done   chan struct{}
	// operation is nil until it is submitted.
	operation atomic.Pointer[execution.Operation]

	mu       sync.Mutex // guards what follows
	step     execution.Step
	response *repb.ExecuteResponse // of an action that has ended
}

func startJob(actions *Actions, assigned *remoteworker.DesiredState_Executing) *job {
	j := &job{digest: assigned.GetActionDigest(), news: make(chan struct{}, 1), done: make(chan struct{})}
	var ctx context.Context
	ctx, j.cancel = context.WithCancelCause(context.Background())
	go func() { // ends soon after cancel
		defer close(j.done)
		defer j.cancel(nil)
		j.tell(execution.StepCompleted, actions.run(ctx, assigned, j.operation.Store, func(step execution.Step) { j.tell(step, nil) }))
	}()
	return j
}

func (j *job) tell(step execution.Step, response *repb.ExecuteResponse) {
	j.mu.Lock()
	defer j.mu.Unlock()
	news := response != nil || stageOf(step) != stageOf(j.step)
	j.step, j.response = step, response
	if !news {
		return
	}
	select {
	case j.news <- struct{}{}:
	default: // which the slot has not seen yet
	}
}

// begun reports whether the command runs, or has run. What watchers are told of steps
// comes up to half a second later.
func (j *job) begun() bool {
	op := j.operation.Load()
	return op != nil && op.State().Step >= execution.StepExecution
}

// ended reports whether there is an outcome.
func (j *job) ended() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.response != nil
}

// failed reports whether an action that has ended could not be run as it should.
func (j *job) failed() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.response.GetStatus().GetCode() != 0
}

// state is what the scheduler is told of the action.
func (j *job) state() (state *remoteworker.CurrentState_Executing, ended bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	state = &remoteworker.CurrentState_Executing{ActionDigest: j.digest}
	if j.response != nil {
		state.ExecutionState = &remoteworker.CurrentState_Executing_Completed{Completed: j.response}
		return state, true
	}
	switch nothing := (&emptypb.Empty{}); stageOf(j.step) {
	case execution.StepInputs:
		state.ExecutionState = &remoteworker.CurrentState_Executing_FetchingInputs{FetchingInputs: nothing}
	case execution.StepExecution:
		state.ExecutionState = &remoteworker.CurrentState_Executing_Running{Running: nothing}
	case execution.StepOutputs:
		state.ExecutionState = &remoteworker.CurrentState_Executing_UploadingOutputs{UploadingOutputs: nothing}
	default:
		state.ExecutionState = &remoteworker.CurrentState_Executing_Started{Started: nothing}
	}
	return state, false
}

// stageOf is the step that begins a stage of the protocol.
func stageOf(step execution.Step) execution.Step {
	switch step {
	case execution.StepInputs, execution.StepExecution, execution.StepOutputs:
		return step
	default:
		return execution.StepAccepted
	}
}
