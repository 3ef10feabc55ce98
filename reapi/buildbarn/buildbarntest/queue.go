package buildbarntest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"github.com/buildbarn/bb-remote-execution/pkg/proto/remoteworker"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// Queue is the scheduler.
type Queue struct {
	remoteworker.UnimplementedOperationQueueServer
	// Sync is how soon a worker that has an action must call again.
	Sync time.Duration

	mu         sync.Mutex // guards what follows
	waiting    []*Task
	workers    map[string]*worker
	violations []string
	fault      Fault
	changed    chan struct{} // closed when something may be done that could not before
}

var _ remoteworker.OperationQueueServer = (*Queue)(nil)

// Fault is called with each request that is in order, before and after it has an
// effect. What it returns the worker gets in place of the answer.
type Fault func(req *remoteworker.SynchronizeRequest, done bool) error

// worker is one that has called.
type worker struct {
	call  context.Context //nolint:containedctx // of the call in flight: it may be over, and not have left yet.
	task  *Task           // that it has
	told  bool            // the worker got an answer with the task in it
	state int             // the last that it reported of the task
}

// NewQueue returns a Queue without actions.
func NewQueue() *Queue {
	return &Queue{Sync: 10 * time.Second, workers: map[string]*worker{}, changed: make(chan struct{})}
}

// Task is an action that was submitted.
type Task struct {
	queue    *Queue
	assigned *remoteworker.DesiredState_Executing
	states   []int
	response *repb.ExecuteResponse
	done     chan struct{}
	unwanted bool
	takers   []string
}

// Submit queues an action.
func (q *Queue) Submit(assigned *remoteworker.DesiredState_Executing) *Task {
	t := &Task{queue: q, assigned: assigned, done: make(chan struct{})}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting = append(q.waiting, t)
	q.wakeLocked()
	return t
}

// Wait returns what the worker reported.
func (t *Task) Wait(ctx context.Context) (*repb.ExecuteResponse, error) {
	select {
	case <-t.done:
		return t.response, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Cancel makes a task one that nobody wants. Its worker is told when it calls.
func (t *Task) Cancel() {
	t.queue.mu.Lock()
	defer t.queue.mu.Unlock()
	t.unwanted = true
	t.queue.wakeLocked()
}

// Reported are the names of the states that were reported of the task, in order.
func (t *Task) Reported() []string {
	t.queue.mu.Lock()
	defer t.queue.mu.Unlock()
	names := make([]string, 0, len(t.states))
	for _, s := range t.states {
		names = append(names, stateName(s))
	}
	return slices.Compact(names)
}

// Takers are the workers to which the task was given.
func (t *Task) Takers() []string {
	t.queue.mu.Lock()
	defer t.queue.mu.Unlock()
	return slices.Clone(t.takers)
}

// SetFault sets what calls can run into; nil: nothing.
func (q *Queue) SetFault(f Fault) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.fault = f
}

// Violations are what workers did that the protocol does not allow.
func (q *Queue) Violations() []string {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Clone(q.violations)
}

// Calling are the workers that have a call in flight.
func (q *Queue) Calling() []string {
	q.mu.Lock()
	defer q.mu.Unlock()
	var names []string
	for name, w := range q.workers {
		if w.call != nil {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func (q *Queue) wakeLocked() {
	close(q.changed)
	q.changed = make(chan struct{})
}

func (q *Queue) violateLocked(format string, args ...any) error {
	text := fmt.Sprintf(format, args...)
	q.violations = append(q.violations, text)
	return errors.New("the protocol does not allow that: " + text)
}

// Synchronize implements remoteworker.OperationQueueServer.
func (q *Queue) Synchronize(ctx context.Context, req *remoteworker.SynchronizeRequest) (*remoteworker.SynchronizeResponse, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	w, err := q.enterLocked(ctx, req)
	if err != nil {
		return nil, err
	}
	defer func() { w.call = nil }()
	if q.fault != nil {
		if err := q.fault(req, false); err != nil {
			return nil, err
		}
	}
	resp, err := q.answerLocked(ctx, w, req)
	if err == nil && q.fault != nil {
		err = q.fault(req, true)
	}
	if err != nil {
		return nil, err
	}
	if resp.GetDesiredState().GetExecuting() != nil {
		w.told = true
	}
	return resp, nil
}

// enterLocked checks what can be said of a request alone.
func (q *Queue) enterLocked(ctx context.Context, req *remoteworker.SynchronizeRequest) (*worker, error) {
	if len(req.GetWorkerId()) == 0 {
		return nil, q.violateLocked("a worker without an ID")
	}
	name := nameOf(req.GetWorkerId())
	if q.workers[name] == nil {
		q.workers[name] = &worker{}
	}
	w := q.workers[name]
	if w.call != nil && w.call.Err() == nil {
		return nil, q.violateLocked("%s calls twice at a time", name)
	}
	if w.call != nil {
		return nil, errors.New("the call before this one is not over yet")
	}
	if !slices.IsSortedFunc(req.GetPlatform().GetProperties(), func(a, b *repb.Platform_Property) int {
		return strings.Compare(a.GetName()+"\x00"+a.GetValue(), b.GetName()+"\x00"+b.GetValue())
	}) {
		return nil, q.violateLocked("%s has properties that are not sorted: %v", name, req.GetPlatform())
	}
	if req.GetCurrentState().GetWorkerState() == nil {
		return nil, q.violateLocked("%s does not say what it does", name)
	}
	w.call = ctx
	return w, nil
}

// answerLocked notes what the worker does, and decides what it should do.
func (q *Queue) answerLocked(ctx context.Context, w *worker, req *remoteworker.SynchronizeRequest) (*remoteworker.SynchronizeResponse, error) {
	name := nameOf(req.GetWorkerId())
	executing := req.GetCurrentState().GetExecuting()
	mayWait := true
	switch {
	case executing == nil:
		if w.task != nil && w.told && !req.GetPreferBeingIdle() {
			return nil, q.violateLocked("%s asks for work and has some", name)
		}
	case w.task == nil || !proto.Equal(executing.GetActionDigest(), w.task.assigned.GetActionDigest()):
		mayWait = executing.GetCompleted() != nil // again, since the answer was lost
		if !mayWait && w.task == nil {
			return q.tell(&remoteworker.DesiredState{WorkerState: &remoteworker.DesiredState_Idle{Idle: &emptypb.Empty{}}}), nil
		}
	default:
		if err := q.noteLocked(w, name, executing); err != nil {
			return nil, err
		}
		if w.task != nil {
			return q.carryOnLocked(w), nil
		}
	}
	return q.nextLocked(ctx, w, name, mayWait && !req.GetPreferBeingIdle())
}

// noteLocked takes what a worker says of its task.
func (q *Queue) noteLocked(w *worker, name string, executing *remoteworker.CurrentState_Executing) error {
	state := stateOf(executing)
	if state == 0 {
		return q.violateLocked("%s does not say what it does with %s", name, executing.GetActionDigest())
	}
	t := w.task
	t.states = append(t.states, state)
	w.state = state
	if executing.GetCompleted() != nil {
		t.response = executing.GetCompleted()
		close(t.done)
		w.task, w.told = nil, false
	}
	return nil
}

// carryOnLocked answers a worker that runs its task.
func (q *Queue) carryOnLocked(w *worker) *remoteworker.SynchronizeResponse {
	if !w.task.unwanted {
		return q.tell(nil)
	}
	w.task, w.told = nil, false
	return q.tell(&remoteworker.DesiredState{WorkerState: &remoteworker.DesiredState_Idle{Idle: &emptypb.Empty{}}})
}

// nextLocked finds a task for a worker, and waits for one if the worker may.
func (q *Queue) nextLocked(ctx context.Context, w *worker, name string, mayWait bool) (*remoteworker.SynchronizeResponse, error) {
	for {
		if w.task != nil { // the answer with it was lost
			return q.executing(w.task), nil
		}
		if !mayWait {
			return q.tell(&remoteworker.DesiredState{WorkerState: &remoteworker.DesiredState_Idle{Idle: &emptypb.Empty{}}}), nil
		}
		if len(q.waiting) > 0 {
			w.task, q.waiting = q.waiting[0], q.waiting[1:]
			w.task.takers = append(w.task.takers, name)
			continue
		}
		changed := q.changed
		q.mu.Unlock()
		select {
		case <-changed:
			q.mu.Lock()
		case <-ctx.Done():
			q.mu.Lock()
			return nil, context.Cause(ctx)
		}
	}
}

func (q *Queue) executing(t *Task) *remoteworker.SynchronizeResponse {
	return q.tell(&remoteworker.DesiredState{WorkerState: &remoteworker.DesiredState_Executing_{Executing: t.assigned}})
}

func (q *Queue) tell(desired *remoteworker.DesiredState) *remoteworker.SynchronizeResponse {
	return &remoteworker.SynchronizeResponse{NextSynchronizationAt: timestamppb.New(time.Now().Add(q.Sync)), DesiredState: desired}
}

// stateOf numbers what a worker says of its task; 0: nothing.
func stateOf(e *remoteworker.CurrentState_Executing) int {
	switch {
	case e.GetStarted() != nil:
		return 1
	case e.GetFetchingInputs() != nil:
		return 2
	case e.GetRunning() != nil:
		return 3
	case e.GetUploadingOutputs() != nil:
		return 4
	case e.GetCompleted() != nil:
		return 5
	default:
		return 0
	}
}

func stateName(state int) string {
	return []string{"nothing", "started", "fetching_inputs", "running", "uploading_outputs", "completed"}[state]
}

func nameOf(id map[string]string) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(id)) {
		parts = append(parts, k+"="+id[k])
	}
	return strings.Join(parts, " ")
}
