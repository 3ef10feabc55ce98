package buildbarn

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"github.com/buildbarn/bb-remote-execution/pkg/proto/remoteworker"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/reapi"
	"github.com/hearth-build/hearth/reapi/execution"
	"github.com/hearth-build/hearth/runners"
)

// ActionsOptions are what Actions are run with.
type ActionsOptions struct {
	// Scheduler is this machine's own, which admits what fits.
	Scheduler *execution.Scheduler
	// Instance has the storage of an instance name.
	Instance func(name string) (*execution.Instance, error)
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
	if o.Scheduler == nil || o.Instance == nil {
		return nil, errors.New("the actions of a worker: the scheduler or the storage is missing")
	}
	if err := CheckPrefix(o.Prefix); err != nil {
		return nil, err
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Actions{o}, nil
}

// run takes an assignment to its end, which comes soon when ctx ends.
func (a *Actions) run(ctx context.Context, assigned *remoteworker.DesiredState_Executing, tell func(execution.Step)) *repb.ExecuteResponse {
	op, err := a.submit(ctx, assigned)
	if err != nil {
		return reapi.FailedResponse(err)
	}
	out := a.watch(ctx, op, tell)
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
	name := a.instanceName(assigned.GetInstanceNameSuffix())
	if err := reapi.CheckInstanceName(name); err != nil {
		return nil, err
	}
	instance, err := a.opts.Instance(name)
	if err != nil {
		return nil, fmt.Errorf("open the storage of instance name %q: %w", name, err)
	}
	client := clientOf(assigned.GetAuxiliaryMetadata())
	return a.opts.Scheduler.Submit(ctx, &execution.Request{
		Instance: instance,
		Action:   action,
		// Whether the client wanted a cached result was decided before it came here.
		SkipCacheLookup: true,
		Invocation:      cmp.Or(client.GetToolInvocationId(), client.GetCorrelatedInvocationsId()),
		Mnemonic:        client.GetActionMnemonic(),
		Target:          client.GetTargetId(),
		Span:            spanOf(assigned.GetW3CTraceContext()),
		Assigned: &execution.Assignment{
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
			return reapi.ClipMetadata(m)
		}
	}
	return &repb.RequestMetadata{}
}

// watch tells of the run's steps until it has ended, which it does soon when ctx ends.
func (a *Actions) watch(ctx context.Context, op *execution.Operation, tell func(execution.Step)) *execution.Outcome {
	stop := context.AfterFunc(ctx, op.Cancel)
	defer stop()
	var out *execution.Outcome
	// It fails only where its context or the callback does.
	_ = op.Watch(context.WithoutCancel(ctx), func(s execution.State) error {
		if out = s.Outcome; out == nil {
			tell(s.Step)
		}
		return nil
	})
	return translated(ctx, out)
}

// translated is the outcome as the client of a cluster should hear it: what this
// machine cannot do, another may.
func translated(ctx context.Context, out *execution.Outcome) *execution.Outcome {
	told := *out // others may share the run
	switch {
	case errors.Is(out.Err, execution.ErrCancelled) && errors.Is(context.Cause(ctx), execution.ErrDraining):
		told.Err = fmt.Errorf("%w: it hands the action back, which another worker can run", execution.ErrDraining)
	default:
		told.Err = elsewhere(out.Err)
	}
	return &told
}

// elsewhere makes what is amiss with this machine's containers something for which
// clients try again.
func elsewhere(err error) error {
	if errors.Is(err, runners.ErrBackend) {
		return fmt.Errorf("%w: this worker cannot run containers at the moment, and another one may: %v", execution.ErrTransient, err)
	}
	return err
}
