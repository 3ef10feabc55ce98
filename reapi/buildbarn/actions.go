package buildbarn

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"strings"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"github.com/buildbarn/bb-remote-execution/pkg/proto/remoteworker"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/reapi"
	"github.com/hearth-build/hearth/reapi/cluster"
	"github.com/hearth-build/hearth/reapi/execution"
)

// ActionsOptions are what Actions are run with.
type ActionsOptions struct {
	cluster.Actions
	// Prefix is the part of instance names by which the cluster's scheduler chose
	// this machine.
	Prefix string
	// Browser is where people look at results; nil: nowhere.
	Browser *url.URL
	// Logger is told of what is lost. Default: none.
	Logger *slog.Logger
}

// Actions run what a scheduler assigns.
type Actions struct{ opts ActionsOptions }

// NewActions checks the options.
func NewActions(o ActionsOptions) (*Actions, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if err := CheckPrefix(o.Prefix); err != nil {
		return nil, err
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Actions{o}, nil
}

// run takes an assignment to its end, which comes soon when ctx ends. Submitted gets its
// operation.
func (a *Actions) run(ctx context.Context, assigned *remoteworker.DesiredState_Executing, submitted func(*execution.Operation), tell func(execution.Step)) *repb.ExecuteResponse {
	op, err := a.submit(ctx, assigned)
	if err != nil {
		return reapi.FailedResponse(err)
	}
	submitted(op)
	out := cluster.Translated(ctx, cluster.Watch(ctx, op, func(s execution.State) { tell(s.Step) }))
	resp := reapi.ExecuteResponse(context.WithoutCancel(ctx), op, out)
	a.show(ctx, op, assigned.GetAction(), resp)
	return resp
}

func (a *Actions) submit(ctx context.Context, assigned *remoteworker.DesiredState_Executing) (*execution.Operation, error) {
	action, err := cas.FromProto(assigned.GetDigestFunction(), assigned.GetActionDigest())
	if err != nil {
		return nil, fmt.Errorf("action_digest: %w", err)
	}
	if assigned.GetAction() == nil {
		return nil, fmt.Errorf("%w: the scheduler sent no action with the digest", execution.ErrInvalid)
	}
	return a.opts.Submit(ctx, &cluster.Assigned{
		InstanceName: a.instanceName(assigned.GetInstanceNameSuffix()),
		Action:       action,
		// Whether the client wanted a cached result was decided before it came here.
		SkipCacheLookup: true,
		Client:          clientOf(assigned.GetAuxiliaryMetadata()),
		Trace:           assigned.GetW3CTraceContext(),
		Details: execution.Assignment{
			Action:    assigned.GetAction(),
			Queued:    assigned.GetQueuedTimestamp(),
			Auxiliary: assigned.GetAuxiliaryMetadata(),
		},
	})
}

// instanceName is what the storage knows an action's blobs by.
func (a *Actions) instanceName(suffix string) string {
	if a.opts.Prefix == "" || suffix == "" {
		return a.opts.Prefix + suffix
	}
	return strings.Join([]string{a.opts.Prefix, suffix}, "/")
}

// clientOf is what the client said of itself, if the scheduler passes it on.
func clientOf(auxiliary []*anypb.Any) *repb.RequestMetadata {
	for _, a := range auxiliary {
		if m := (&repb.RequestMetadata{}); a.MessageIs(m) && a.UnmarshalTo(m) == nil {
			return m
		}
	}
	return &repb.RequestMetadata{}
}
