package buildbuddytest

import (
	"context"
	"fmt"
	"time"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/hearth-build/hearth/reapi/buildbuddy/buildbuddypb"
)

// claim is a lease of a task.
type claim struct {
	id, executor, host string
	broken             bool // its stream is over
	stages             []repb.ExecutionStage_Value
	final              *repb.ExecuteResponse // that was published
	acknowledged       bool                  // the executor was told so
}

// has reports whether an executor has the task.
func (t *Task) has(executor string) bool {
	return t != nil && t.claim != nil && t.claim.executor == executor
}

// leaseCall is one LeaseTask call.
type leaseCall struct {
	app   *App
	ctx   context.Context //nolint:containedctx // of the call.
	task  *Task
	claim *claim
}

// LeaseTask implements buildbuddypb.SchedulerServer.
func (a *App) LeaseTask(stream buildbuddypb.Scheduler_LeaseTaskServer) error {
	c := &leaseCall{app: a, ctx: stream.Context()}
	defer c.over()
	broken := a.breaking()
	messages, ended := receive(stream.Context(), stream.Recv)
	renewal := time.NewTimer(a.Lease + a.Grace)
	defer renewal.Stop()
	for {
		select {
		case <-broken:
			return errBroken()
		case err := <-ended:
			return err
		case <-renewal.C:
			return c.expire()
		case message := <-messages:
			resp, err := c.heed(message)
			if err != nil {
				return err
			}
			if resp == nil { // not heard
				continue
			}
			renewal.Reset(a.Lease + a.Grace)
			if err := stream.Send(resp); err != nil || message.GetFinalize() || message.GetReEnqueue() {
				return err
			}
		}
	}
}

// over lets others have a task whose call has ended without a word, unless its executor
// takes it up again soon.
func (c *leaseCall) over() {
	c.app.mu.Lock()
	defer c.app.mu.Unlock()
	if c.claim == nil || c.task.claim != c.claim {
		return
	}
	c.claim.broken = true
	time.AfterFunc(c.app.Grace, func() {
		c.app.mu.Lock()
		defer c.app.mu.Unlock()
		if c.task.claim == c.claim && c.claim.broken {
			c.loseLocked()
		}
	})
}

func (c *leaseCall) expire() error {
	c.app.mu.Lock()
	defer c.app.mu.Unlock()
	if c.claim != nil && c.task.claim == c.claim {
		c.loseLocked()
	}
	return status.Error(codes.DeadlineExceeded, "the lease was not renewed")
}

// loseLocked lets others have the task.
func (c *leaseCall) loseLocked() {
	c.task.expired++
	c.task.claim = nil
	if err := c.app.offerLocked(c.task, c.claim.executor); err != nil {
		c.app.violations = append(c.app.violations, err.Error())
	}
}

// heed does what a message asks for. It returns nothing if the app does not hear.
func (c *leaseCall) heed(m *buildbuddypb.LeaseTaskRequest) (*buildbuddypb.LeaseTaskResponse, error) {
	a := c.app
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.faultLocked(CallLease, m.GetTaskId()); err != nil {
		return nil, err
	}
	if c.claim != nil && a.deaf {
		return nil, nil
	}
	resp := &buildbuddypb.LeaseTaskResponse{LeaseDurationSeconds: int64(a.Lease / time.Second), SupportsReconnect: true}
	if c.claim == nil {
		return resp, c.claimLocked(m, resp)
	}
	switch {
	case m.GetTaskId() != c.task.id || m.GetExecutorId() != c.claim.executor:
		return nil, a.violateLocked("executor %s became %s in the lease of %s, which became %s", c.claim.executor, m.GetExecutorId(), c.task.id, m.GetTaskId())
	case c.task.claim != c.claim:
		return nil, status.Error(codes.NotFound, "the task is gone, or another's")
	case m.GetFinalize() && m.GetReEnqueue():
		return nil, a.violateLocked("task %s is both done and given back", c.task.id)
	case m.GetFinalize():
		return resp, c.finalizeLocked(resp)
	case m.GetReEnqueue():
		return resp, c.giveBackLocked(m.GetReEnqueueReason(), resp)
	}
	return resp, nil
}

// claimLocked gives a task to an executor.
func (c *leaseCall) claimLocked(m *buildbuddypb.LeaseTaskRequest, resp *buildbuddypb.LeaseTaskResponse) error {
	a := c.app
	if m.GetFinalize() || m.GetReEnqueue() {
		return a.violateLocked("executor %s ends a lease of %s that it does not have", m.GetExecutorId(), m.GetTaskId())
	}
	t, err := a.findLocked(m.GetTaskId())
	if err != nil {
		return err
	}
	if err := a.ownersLocked(c.ctx, t); err != nil {
		return err
	}
	a.settledLocked(m.GetExecutorId(), t.id) // whatever comes of it
	switch old := t.claim; {
	case old != nil && old.broken && m.GetReconnectToken() == old.id && m.GetSupportsReconnect():
		old.broken = false
		c.task, c.claim, resp.LeaseId = t, old, old.id
		return nil
	case old != nil && !old.broken && old.executor == m.GetExecutorId():
		return a.violateLocked("executor %s leases %s, which it has", m.GetExecutorId(), t.id)
	case old != nil || m.GetReconnectToken() != "":
		return status.Errorf(codes.NotFound, "task %s is another's", t.id)
	}
	host, ok := t.offered[m.GetExecutorId()]
	if !ok {
		return a.violateLocked("executor %q leases %s, which it was not offered", m.GetExecutorId(), t.id)
	}
	t.takers = append(t.takers, m.GetExecutorId())
	t.claim = &claim{id: fmt.Sprintf("lease %d of %s", len(t.takers), t.id), executor: m.GetExecutorId(), host: host}
	c.task, c.claim, resp.LeaseId, resp.SerializedTask = t, t.claim, t.claim.id, t.serialized
	return nil
}

// settledLocked notes that an executor's offer of a task is over.
func (a *App) settledLocked(executor, task string) {
	for _, e := range a.executors {
		if e.node.GetExecutorId() == executor {
			delete(e.offers, task)
		}
	}
}

func (c *leaseCall) finalizeLocked(resp *buildbuddypb.LeaseTaskResponse) error {
	if !c.claim.acknowledged {
		return c.app.violateLocked("task %s is finalized before its outcome was published", c.task.id)
	}
	c.task.response = c.claim.final
	c.task.endLocked()
	resp.ClosedCleanly = true
	return nil
}

func (c *leaseCall) giveBackLocked(reason []byte, resp *buildbuddypb.LeaseTaskResponse) error {
	s := &rpcstatus.Status{}
	if err := proto.Unmarshal(reason, s); err != nil || s.GetCode() == 0 || s.GetMessage() == "" {
		return c.app.violateLocked("task %s is given back without a reason: %v (%v)", c.task.id, s, err)
	}
	if c.claim.acknowledged {
		return c.app.violateLocked("task %s is given back after its outcome was published", c.task.id)
	}
	c.task.givenBack = append(c.task.givenBack, s)
	c.task.claim = nil
	resp.ClosedCleanly = true
	return c.app.offerLocked(c.task, c.claim.executor)
}

// ReEnqueueTask implements buildbuddypb.SchedulerServer.
func (a *App) ReEnqueueTask(ctx context.Context, req *buildbuddypb.ReEnqueueTaskRequest) (*buildbuddypb.ReEnqueueTaskResponse, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	t, err := a.findLocked(req.GetTaskId())
	if err == nil {
		err = a.ownersLocked(ctx, t)
	}
	switch {
	case err != nil:
		return nil, err
	case req.GetReason() == "" || req.GetLeaseId() == "":
		return nil, a.violateLocked("task %s is given back without a reason or a lease: %v", t.id, req)
	case t.claim == nil || t.claim.id != req.GetLeaseId():
		return nil, status.Error(codes.NotFound, "that lease is over")
	}
	from := t.claim.executor
	t.givenBack = append(t.givenBack, &rpcstatus.Status{Code: int32(codes.Unknown), Message: req.GetReason()})
	t.claim = nil
	return &buildbuddypb.ReEnqueueTaskResponse{}, a.offerLocked(t, from)
}
