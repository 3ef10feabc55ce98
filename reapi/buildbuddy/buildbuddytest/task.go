package buildbuddytest

import (
	"context"
	"fmt"
	"slices"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/hearth-build/hearth/reapi/buildbuddy/buildbuddypb"
)

// Spec is what a task is made of.
type Spec struct {
	Request   *repb.ExecuteRequest
	Action    *repb.Action
	Command   *repb.Command
	Overrides *repb.Platform
	Client    *repb.RequestMetadata
	// Group owns the task.
	Group    string
	Size     *buildbuddypb.TaskSize
	Priority int32
	Delay    *durationpb.Duration
	Trace    map[string]string
}

// Task is an action that was submitted.
type Task struct {
	app        *App
	id, jwt    string
	spec       Spec
	serialized []byte

	claim     *claim // nil: nobody has it
	gone      bool   // it was finalized, or cancelled
	response  *repb.ExecuteResponse
	done      chan struct{} // closed when it is gone
	takers    []string
	givenBack []*rpcstatus.Status
	expired   int
	offers    int
	offered   map[string]string // to which executors, and the IDs of their hosts
}

// Submit makes a task, and offers it to executors.
func (a *App) Submit(spec Spec) (*Task, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := len(a.submitted) + 1
	d := spec.Request.GetActionDigest()
	t := &Task{
		app: a, spec: spec, done: make(chan struct{}), offered: map[string]string{}, jwt: fmt.Sprintf("token-%d-of-%s", n, spec.Group),
		id: fmt.Sprintf("uploads/execution-%d/blobs/%s/%d", n, d.GetHash(), d.GetSizeBytes()),
	}
	execution := &buildbuddypb.ExecutionTask{Jwt: t.jwt, ExecutionId: t.id, InvocationId: "invocation of " + t.id}
	for _, field := range []struct {
		from proto.Message
		into *[]byte
	}{
		{spec.Request, &execution.ExecuteRequest},
		{spec.Action, &execution.Action},
		{spec.Command, &execution.Command},
		{spec.Overrides, &execution.PlatformOverrides},
		{spec.Client, &execution.RequestMetadata},
	} {
		data, err := proto.Marshal(field.from)
		if err != nil {
			return nil, err
		}
		*field.into = data
	}
	var err error
	if t.serialized, err = proto.Marshal(execution); err != nil {
		return nil, err
	}
	a.tasks[t.id] = t
	a.submitted = append(a.submitted, t)
	if a.Ask {
		return t, nil
	}
	return t, a.offerLocked(t, "")
}

// offerLocked offers a task to all executors, but not to one that gave it back if there
// are others.
func (a *App) offerLocked(t *Task, not string) error {
	offered := false
	for _, e := range a.executors {
		if e.node.GetExecutorId() == not {
			continue
		}
		offered = true
		if err := e.offerLocked(t); err != nil {
			return err
		}
	}
	if !offered && not != "" {
		return a.offerLocked(t, "")
	}
	return nil
}

// offer is what executors are told of a task.
func (t *Task) offer() (*buildbuddypb.RegisterAndStreamWorkResponse, error) {
	delay, err := proto.Marshal(t.spec.Delay)
	if err != nil {
		return nil, err
	}
	return &buildbuddypb.RegisterAndStreamWorkResponse{EnqueueTaskReservationRequest: &buildbuddypb.EnqueueTaskReservationRequest{
		TaskId: t.id, TaskSize: t.spec.Size, Delay: delay, Jwt: t.jwt,
		SchedulingMetadata: &buildbuddypb.SchedulingMetadata{TaskGroupId: t.spec.Group, Priority: t.spec.Priority},
		TraceMetadata:      &buildbuddypb.TraceMetadata{Entries: t.spec.Trace},
	}}, nil
}

// ID is what the client knows the execution by.
func (t *Task) ID() string { return t.id }

// Token is what shows that a call is in the name of the task's owner.
func (t *Task) Token() string { return t.jwt }

// Wait returns the outcome when the task is finalized; nil if it was cancelled.
func (t *Task) Wait(ctx context.Context) (*repb.ExecuteResponse, error) {
	select {
	case <-t.done:
		return t.response, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Cancel makes a task one that does not exist any more.
func (t *Task) Cancel() error {
	t.app.mu.Lock()
	defer t.app.mu.Unlock()
	if t.gone {
		return nil
	}
	t.response = nil
	t.endLocked()
	for _, e := range t.app.executors {
		if err := e.withdrawLocked(t); err != nil {
			return err
		}
	}
	return nil
}

func (t *Task) endLocked() {
	t.gone, t.claim = true, nil
	close(t.done)
}

// Stages are those that were published since the task was leased for the last time.
func (t *Task) Stages() []repb.ExecutionStage_Value {
	t.app.mu.Lock()
	defer t.app.mu.Unlock()
	if t.claim == nil {
		return nil
	}
	return slices.Compact(slices.Clone(t.claim.stages))
}

// Takers are the executors that had a lease of the task.
func (t *Task) Takers() []string {
	t.app.mu.Lock()
	defer t.app.mu.Unlock()
	return slices.Clone(t.takers)
}

// GivenBack is why the task was given back, each time.
func (t *Task) GivenBack() []*rpcstatus.Status {
	t.app.mu.Lock()
	defer t.app.mu.Unlock()
	return slices.Clone(t.givenBack)
}

// Expired is how often a lease of the task was over without a word.
func (t *Task) Expired() int {
	t.app.mu.Lock()
	defer t.app.mu.Unlock()
	return t.expired
}

// Offers is how often executors have acknowledged that they were offered the task.
func (t *Task) Offers() int {
	t.app.mu.Lock()
	defer t.app.mu.Unlock()
	return t.offers
}
