package execution

import (
	"context"
	"fmt"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// Assignment is what a scheduler elsewhere, which chose this machine for a request,
// says of it. Nobody changes it.
type Assignment struct {
	// Action is the message itself, with the timeout that the scheduler set, which
	// may be another than that of the blob.
	Action *repb.Action
	// Command is the action's, or nil if the scheduler sent none.
	Command *repb.Command
	// Queued is when the scheduler got the request.
	Queued *timestamppb.Timestamp
	// Auxiliary comes first in the auxiliary metadata of the result.
	Auxiliary []*anypb.Any
	// Room is what was kept for the action, or nil: it is admitted like others.
	Room *Room
	// Context adds to a context what is needed by calls for the action, such as whose
	// it is; nil: nothing.
	Context func(context.Context) context.Context
}

// command is what the scheduler sent; nil if nothing.
func (a *Assignment) command() *repb.Command {
	if a == nil {
		return nil
	}
	return a.Command
}

// room is what was kept for the action; nil if nothing.
func (a *Assignment) room() *Room {
	if a == nil {
		return nil
	}
	return a.Room
}

// within is the context in which the action's run is.
func (a *Assignment) within(ctx context.Context) context.Context {
	if a == nil || a.Context == nil {
		return ctx
	}
	return a.Context(ctx)
}

// stamp puts what the assignment says into the metadata of a result.
func (a *Assignment) stamp(md *repb.ExecutedActionMetadata) {
	if a == nil {
		return
	}
	if a.Queued != nil {
		md.QueuedTimestamp = a.Queued
	}
	md.AuxiliaryMetadata = append(append([]*anypb.Any(nil), a.Auxiliary...), md.GetAuxiliaryMetadata()...)
}

// findAction returns the Action of a request, which is read if nobody knows it.
func findAction(ctx context.Context, r *Request) (action *repb.Action, err error) {
	if a := r.Assigned; a != nil && a.Action != nil {
		action = a.Action
	} else if action, err = loadAction(ctx, r); err != nil {
		return nil, fmt.Errorf("action: %w", err)
	}
	if t := action.GetTimeout(); t != nil {
		if err := t.CheckValid(); err != nil || t.AsDuration() < 0 {
			return nil, fmt.Errorf("action: %w", invalidf("timeout %v is not a valid duration", t))
		}
	}
	return action, nil
}
