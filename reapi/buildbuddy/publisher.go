package buildbuddy

import (
	"context"
	"errors"
	"fmt"
	"time"

	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/hearth-build/hearth/reapi/cluster"
)

// publishMethod is BuildBuddy's addition to a service of the Remote Execution API,
// whose published files do not have it.
const publishMethod = "/build.bazel.remote.execution.v2.Execution/PublishOperation"

// publisher tells the app, and so the client, what becomes of a task.
type publisher struct {
	worker *Worker
	ctx    context.Context //nolint:containedctx // of the lease: there is nothing to tell without one.
	task   string

	stream grpc.ClientStream // nil: the next message opens one
	cancel context.CancelFunc
}

// send puts a message on the stream.
func (p *publisher) send(message *longrunningpb.Operation) error {
	if p.stream == nil {
		var ctx context.Context
		var err error
		ctx, p.cancel = context.WithCancel(p.ctx)
		desc := &grpc.StreamDesc{StreamName: "PublishOperation", ClientStreams: true}
		if p.stream, err = p.worker.opts.Conn.NewStream(ctx, desc, publishMethod); err != nil {
			p.cancel()
			p.stream = nil
			return err
		}
	}
	if p.stream.SendMsg(message) == nil {
		return nil
	}
	if err := p.stream.RecvMsg(&emptypb.Empty{}); err != nil {
		return err // which says why
	}
	return errors.New("the app ended the stream too early")
}

// close gives the stream up. What was not acknowledged may be lost.
func (p *publisher) close() {
	if p.stream != nil {
		p.cancel()
		p.stream = nil
	}
}

// settle returns when the app has had all that was told, so that none of it comes after
// the news that the task is given back: that goes by another stream.
func (p *publisher) settle() {
	if p.stream == nil {
		return
	}
	defer time.AfterFunc(settleTimeout, p.cancel).Stop()
	err := p.stream.CloseSend()
	if err == nil {
		err = p.stream.RecvMsg(&emptypb.Empty{})
	}
	if err != nil {
		p.worker.opts.Logger.Debug("the app may hear of a state late", "task", p.task, "error", err)
	}
}

// tell publishes a state. If that fails the client does not see it, which is no harm:
// another follows.
func (p *publisher) tell(message *longrunningpb.Operation) {
	if err := p.send(message); err != nil {
		p.worker.opts.Logger.Debug("the app did not hear of a state", "task", p.task, "error", err)
		p.close()
	}
}

const (
	// publishAttempts is how often the outcome is published before the task is given back.
	publishAttempts = 5
	// publishTimeout bounds each.
	publishTimeout = 20 * time.Second
	// settleTimeout bounds the wait for an app that is to hear next that a task is given back.
	settleTimeout = 5 * time.Second
)

// finish publishes the outcome, and returns when the app has acknowledged it.
func (p *publisher) finish(final *longrunningpb.Operation) error {
	var failures cluster.Backoff
	for attempt := 1; ; attempt++ {
		err := p.acknowledged(final)
		if err == nil {
			return nil
		}
		p.close()
		if p.ctx.Err() != nil {
			return context.Cause(p.ctx)
		}
		if attempt == publishAttempts {
			return fmt.Errorf("publish the outcome (tried %d times): %w", attempt, err)
		}
		p.worker.opts.Logger.Debug("the app did not acknowledge an outcome", "task", p.task, "error", err)
		failures.First()
		failures.Wait(p.ctx)
	}
}

func (p *publisher) acknowledged(final *longrunningpb.Operation) error {
	if err := p.send(final); err != nil {
		return err
	}
	defer time.AfterFunc(publishTimeout, p.cancel).Stop()
	if err := p.stream.CloseSend(); err != nil {
		return err
	}
	return p.stream.RecvMsg(&emptypb.Empty{})
}
