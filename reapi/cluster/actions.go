package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/reapi"
	"github.com/hearth-build/hearth/reapi/execution"
	"github.com/hearth-build/hearth/runners"
)

// Actions run what a scheduler elsewhere assigns.
type Actions struct {
	// Scheduler is this machine's own, which admits what fits.
	Scheduler *execution.Scheduler
	// Instance has the storage of a tenant's instance name.
	Instance func(tenant, name string) (*execution.Instance, error)
}

// Validate says what is missing.
func (a *Actions) Validate() error {
	if a.Scheduler == nil || a.Instance == nil {
		return errors.New("the actions of a worker: the scheduler or the storage is missing")
	}
	return nil
}

// Assigned is an action that a scheduler elsewhere chose this machine for.
type Assigned struct {
	// Tenant is whose action it is, where the scheduler tells them apart.
	Tenant, InstanceName string
	Action               cas.Digest
	SkipCacheLookup      bool
	// Overrides are platform properties that came beside the action.
	Overrides []runners.Property
	// Client is what the client said of itself, or nil.
	Client *repb.RequestMetadata
	// Trace has W3C trace context headers.
	Trace map[string]string
	// Details are what else the scheduler says.
	Details execution.Assignment
}

// Submit begins the action's run.
func (a *Actions) Submit(ctx context.Context, assigned *Assigned) (*execution.Operation, error) {
	if err := reapi.CheckInstanceName(assigned.InstanceName); err != nil {
		return nil, err
	}
	instance, err := a.Instance(assigned.Tenant, assigned.InstanceName)
	if err != nil {
		return nil, fmt.Errorf("open the storage of instance name %q: %w", assigned.InstanceName, err)
	}
	client := reapi.ClipMetadata(cmp.Or(assigned.Client, &repb.RequestMetadata{}))
	return a.Scheduler.Submit(ctx, &execution.Request{
		Instance:        instance,
		Tenant:          assigned.Tenant,
		Action:          assigned.Action,
		SkipCacheLookup: assigned.SkipCacheLookup,
		Overrides:       assigned.Overrides,
		Invocation:      cmp.Or(client.GetToolInvocationId(), client.GetCorrelatedInvocationsId()),
		Mnemonic:        client.GetActionMnemonic(),
		Target:          client.GetTargetId(),
		Span:            spanOf(assigned.Trace),
		Assigned:        &assigned.Details,
	})
}

// Watch tells of the run's states until it has ended, which it does soon when ctx ends.
func Watch(ctx context.Context, op *execution.Operation, tell func(execution.State)) *execution.Outcome {
	stop := context.AfterFunc(ctx, op.Cancel)
	defer stop()
	var out *execution.Outcome
	// It fails only where its context or the callback does.
	_ = op.Watch(context.WithoutCancel(ctx), func(s execution.State) error {
		if out = s.Outcome; out == nil {
			tell(s)
		}
		return nil
	})
	return out
}

// Translated is the outcome as the client of a cluster should hear it: what this
// machine cannot do, another may. Ctx is that of Watch.
func Translated(ctx context.Context, out *execution.Outcome) *execution.Outcome {
	told := *out // others may share the run
	if drained(ctx, out.Err) {
		told.Err = fmt.Errorf("%w: it hands the action back, which another worker can run", execution.ErrDraining)
	} else {
		told.Err = Elsewhere(out.Err)
	}
	return &told
}

// HandsBack reports whether the outcome says nothing of the action, which another
// machine should run, where a scheduler can give it to one. Ctx is that of Watch.
func HandsBack(ctx context.Context, err error) bool {
	return drained(ctx, err) || errors.Is(err, execution.ErrDraining) || errors.Is(err, execution.ErrQueueFull) ||
		errors.Is(err, runners.ErrBackend) || errors.Is(err, runners.ErrClosed)
}

// drained reports whether the run was ended since the worker leaves.
func drained(ctx context.Context, err error) bool {
	return errors.Is(err, execution.ErrCancelled) && errors.Is(context.Cause(ctx), execution.ErrDraining)
}

// Elsewhere makes what is amiss with this machine's containers something for which
// clients try again.
func Elsewhere(err error) error {
	if errors.Is(err, runners.ErrBackend) {
		return fmt.Errorf("%w: this worker cannot run containers at the moment, and another one may: %v", execution.ErrTransient, err)
	}
	return err
}
