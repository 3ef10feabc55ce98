package buildbuddytest

import (
	"errors"
	"io"

	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
)

// PublishOperation is BuildBuddy's addition to the Execution service.
func (a *App) PublishOperation() grpc.StreamDesc {
	return grpc.StreamDesc{StreamName: "PublishOperation", ClientStreams: true, Handler: func(_ any, stream grpc.ServerStream) error {
		return a.publishOperation(stream)
	}}
}

func (a *App) publishOperation(stream grpc.ServerStream) error {
	broken := a.breaking()
	messages, ended := receive(stream.Context(), func() (*longrunningpb.Operation, error) {
		m := &longrunningpb.Operation{}
		return m, stream.RecvMsg(m)
	})
	var last *longrunningpb.Operation
	for {
		select {
		case <-broken:
			return errBroken()
		case err := <-ended:
			if !errors.Is(err, io.EOF) {
				return err
			}
			if err := a.acknowledge(last); err != nil {
				return err
			}
			return stream.SendMsg(&emptypb.Empty{})
		case last = <-messages:
			if err := a.publish(stream, last); err != nil {
				return err
			}
		}
	}
}

// publish takes what an executor says of a task.
func (a *App) publish(stream grpc.ServerStream, m *longrunningpb.Operation) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.faultLocked(CallPublish, m.GetName()); err != nil {
		return err
	}
	t, err := a.findLocked(m.GetName())
	if err != nil {
		return err
	}
	if err := a.ownersLocked(stream.Context(), t); err != nil {
		return err
	}
	c := t.claim
	if c == nil {
		return a.violateLocked("something was published of task %s, which nobody has", t.id)
	}
	md := &repb.ExecuteOperationMetadata{}
	if err := m.GetMetadata().UnmarshalTo(md); err != nil || !proto.Equal(md.GetActionDigest(), t.spec.Request.GetActionDigest()) {
		return a.violateLocked("what was published of task %s is of another action: %v (%v)", t.id, md, err)
	}
	final := md.GetStage() == repb.ExecutionStage_COMPLETED
	if final != m.GetDone() || final != (m.GetResponse() != nil) || m.GetError() != nil {
		return a.violateLocked("task %s is done and is not: %v", t.id, m)
	}
	if n := len(c.stages); n > 0 && md.GetStage() < c.stages[n-1] || md.GetStage() == repb.ExecutionStage_UNKNOWN {
		return a.violateLocked("task %s goes from %v to %v", t.id, c.stages, md.GetStage())
	}
	c.stages = append(c.stages, md.GetStage())
	if !final {
		return nil
	}
	return a.finalLocked(t, m)
}

// finalLocked takes the outcome of a task. It may come again, but not be another one.
func (a *App) finalLocked(t *Task, m *longrunningpb.Operation) error {
	resp := &repb.ExecuteResponse{}
	if err := m.GetResponse().UnmarshalTo(resp); err != nil {
		return a.violateLocked("the outcome of task %s: %v", t.id, err)
	}
	if t.claim.final != nil && !proto.Equal(t.claim.final, resp) {
		return a.violateLocked("task %s has two outcomes: %v and %v", t.id, t.claim.final, resp)
	}
	if worker := resp.GetResult().GetExecutionMetadata().GetWorker(); resp.GetResult() != nil && worker != t.claim.host {
		return a.violateLocked("the result of task %s was made on %q, and its executor is on %q", t.id, worker, t.claim.host)
	}
	t.claim.final = resp
	return nil
}

// acknowledge is called when a stream ends as it should.
func (a *App) acknowledge(last *longrunningpb.Operation) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if last == nil {
		return a.violateLocked("nothing was published")
	}
	if err := a.faultLocked(CallAck, last.GetName()); err != nil {
		return err
	}
	if t := a.tasks[last.GetName()]; t.claim != nil && last.GetDone() {
		t.claim.acknowledged = true
	}
	return nil
}
