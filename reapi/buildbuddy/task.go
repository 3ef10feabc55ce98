package buildbuddy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"cloud.google.com/go/longrunning/autogen/longrunningpb"

	"github.com/hearth-build/hearth/reapi/buildbuddy/buildbuddypb"
	"github.com/hearth-build/hearth/reapi/cluster"
	"github.com/hearth-build/hearth/reapi/execution"
)

// task is one that was offered.
type task struct {
	worker             *Worker
	told               *buildbuddypb.EnqueueTaskReservationRequest
	delay              time.Duration
	draining, handBack <-chan struct{}
}

// take leases the task when there is room for it, and takes it to its end.
func (t *task) take(o *offer) {
	w := t.worker
	defer w.settle(o)
	room, err := t.reserve(o.ctx)
	if err != nil {
		if o.ctx.Err() == nil {
			w.opts.Logger.Warn("a task that was offered is not taken", "task", o.id, "error", err)
		}
		return
	}
	defer room.Release()
	if !w.settle(o) {
		return
	}
	ctx := withOwner(context.Background(), t.told.GetJwt())
	l, err := w.lease(ctx, o.id)
	switch {
	case errors.Is(err, errTaken):
		w.opts.Logger.Debug("another worker was faster", "task", o.id)
		return
	case err != nil:
		w.opts.Logger.Warn("a task that was offered could not be leased", "task", o.id, "error", err)
		return
	}
	defer l.end()
	w.leased.Add(1)
	defer w.leased.Add(-1)
	t.hold(l, t.start(l, room))
}

// reserve waits until the task can begin here.
func (t *task) reserve(ctx context.Context) (*execution.Room, error) {
	if !pause(ctx, t.delay) {
		return nil, context.Cause(ctx)
	}
	room, err := t.worker.opts.Actions.Scheduler.Reserve(ctx, execution.RoomRequest{
		Tenant:    t.told.GetSchedulingMetadata().GetTaskGroupId(),
		Priority:  t.told.GetSchedulingMetadata().GetPriority(),
		Estimates: estimatesOf(t.told.GetTaskSize()),
		Name:      t.told.GetTaskId(),
	})
	if err != nil {
		return nil, err
	}
	// A machine that is not ready takes back all that it could be offered, soon.
	for failures := (cluster.Backoff{}); t.worker.opts.Ready(ctx) != nil; failures.Wait(ctx) {
		failures.First()
		if ctx.Err() != nil {
			room.Release()
			return nil, context.Cause(ctx)
		}
	}
	return room, nil
}

// pause waits, and reports false if ctx ends before that.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// run is a task's action under way.
type run struct {
	cancel    context.CancelCauseFunc
	operation atomic.Pointer[execution.Operation] // nil: it is not submitted yet
	done      chan struct{}                       // closed when nothing of it goes on any more
	// back is why the task should be run by another, set before done is closed. Nil:
	// the app has acknowledged the outcome.
	back error
}

// begun reports whether the command runs, or has run.
func (r *run) begun() bool {
	op := r.operation.Load()
	return op != nil && op.State().Step >= execution.StepExecution
}

// start begins what was leased.
func (t *task) start(l *lease, room *execution.Room) *run {
	r := &run{done: make(chan struct{})}
	var ctx context.Context
	ctx, r.cancel = context.WithCancelCause(l.ctx)
	go func() { // ends soon after cancel
		defer close(r.done)
		defer r.cancel(nil)
		r.back = t.execute(ctx, l, room, r)
	}()
	return r
}

// execute runs the action and publishes what becomes of it.
func (t *task) execute(ctx context.Context, l *lease, room *execution.Room, r *run) error {
	want, err := parseTask(l.serialized)
	if err != nil {
		return err
	}
	owner := cmp.Or(want.jwt, t.told.GetJwt())
	want.assigned.Tenant = t.told.GetSchedulingMetadata().GetTaskGroupId()
	want.assigned.Trace = t.told.GetTraceMetadata().GetEntries()
	want.assigned.Details.Room = room
	want.assigned.Details.Context = func(ctx context.Context) context.Context { return withOwner(ctx, owner) }
	p := &publisher{worker: t.worker, ctx: want.describe(withOwner(l.ctx, owner)), task: l.id}
	defer p.close()
	final, err := t.outcome(ctx, want, p, r)
	if err != nil {
		p.settle()
		return err
	}
	return p.finish(final)
}

// outcome is the last that is published, or why the task should be run by another.
func (t *task) outcome(ctx context.Context, want *wanted, p *publisher, r *run) (*longrunningpb.Operation, error) {
	op, err := t.worker.opts.Actions.Submit(ctx, &want.assigned)
	if cluster.HandsBack(ctx, err) {
		return nil, err
	}
	if err != nil {
		return want.failed(err)
	}
	r.operation.Store(op)
	out := cluster.Watch(ctx, op, func(s execution.State) {
		if s.Step == execution.StepAccepted { // the app itself said that it is queued
			return
		}
		if message, err := want.message(ctx, op, s); err == nil { // else the last one says so
			p.tell(message)
		}
	})
	told := cluster.Translated(ctx, out)
	if cluster.HandsBack(ctx, out.Err) {
		return nil, told.Err
	}
	return want.message(context.WithoutCancel(ctx), op, execution.State{Step: execution.StepCompleted, Outcome: told})
}

// hold keeps the lease until the run has ended, and says what became of it.
func (t *task) hold(l *lease, r *run) {
	draining, handBack := t.draining, t.handBack
	for {
		select {
		case <-r.done:
			t.finish(l, r)
			return
		case a := <-l.answers:
			l.hear(a)
		case <-l.timer.C:
			l.tick()
		case <-draining:
			draining = nil
			if !r.begun() {
				r.cancel(errLeaving)
			}
		case <-handBack:
			handBack = nil
			r.cancel(errLeaving)
		}
	}
}

// finish tells the app that the task is done, or why it should be run by another.
func (t *task) finish(l *lease, r *run) {
	log := t.worker.opts.Logger.With("task", l.id)
	if l.ctx.Err() != nil {
		log.Warn("a task was lost, and its action ended", "error", context.Cause(l.ctx))
		return
	}
	end := &buildbuddypb.LeaseTaskRequest{Finalize: true}
	if r.back != nil {
		log.Info("a task is given back, for another worker", "reason", r.back)
		reason, err := statusOf(r.back)
		if err != nil {
			log.Error("the reason cannot be told", "error", err)
		}
		end = &buildbuddypb.LeaseTaskRequest{ReEnqueue: true, ReEnqueueReason: reason}
	}
	if err := l.close(end); err != nil {
		log.Warn("the app did not hear what became of a task, and will see to it when the lease is over", "given_back", r.back != nil, "error", err)
		if r.back != nil {
			t.worker.giveBack(l, r.back)
		}
	}
}

// giveBack is for a lease whose stream broke.
func (w *Worker) giveBack(l *lease, why error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(l.ctx), callTimeout)
	defer cancel()
	_, err := w.client.ReEnqueueTask(ctx, &buildbuddypb.ReEnqueueTaskRequest{TaskId: l.id, LeaseId: l.leaseID, Reason: why.Error()})
	if err != nil {
		w.opts.Logger.Warn("a task could not be given back", "task", l.id, "error", fmt.Errorf("re-enqueue it: %w", err))
	}
}
