package execution

import (
	"context"
	"errors"
	"fmt"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/runners"
)

// matched finds out what a task asks of its runner before it waits for one.
type matched struct {
	Executor
	dialect *runners.Dialect
}

// WithMatching fails tasks that no runner can take, before base makes them wait.
func WithMatching(base Executor) Executor { return &matched{base, runners.NewDialect()} }

// Execute implements Executor.
func (e *matched) Execute(ctx context.Context, t *Task, report Report) *Outcome {
	err := t.match(ctx, e.dialect)
	var missing *cas.MissingError
	if err != nil && !errors.As(err, &missing) {
		return failed(err)
	}
	// A Command that is missing is told of later, with all else that is.
	return e.Executor.Execute(ctx, t, report)
}

// match reads the Command if the Action says nothing of its platform.
func (t *Task) match(ctx context.Context, dialect *runners.Dialect) error {
	if len(t.Action.GetPlatform().GetProperties()) > 0 {
		_, err := t.matchedPlatform(nil, dialect.Parse)
		return err
	}
	d, err := t.commandDigest()
	if err != nil {
		return err
	}
	if t.command, err = t.loadCommand(ctx, d); err != nil {
		t.command = nil
		return fmt.Errorf("command: %w", err)
	}
	_, err = t.matchedPlatform(t.command, dialect.Parse)
	return err
}

// parsePlatform is runners.ParsePlatform, or that of a Dialect.
type parsePlatform func(props, defaults, overrides []runners.Property) (runners.Platform, error)

// matchedPlatform is what the properties of the task mean: the Action's if it
// has any, else those of its Command, as older clients send them (REAPI F36).
func (t *Task) matchedPlatform(command *repb.Command, parse parsePlatform) (runners.Platform, error) {
	if t.platform != nil {
		return *t.platform, nil
	}
	sent := t.Action.GetPlatform().GetProperties()
	if len(sent) == 0 {
		sent = command.GetPlatform().GetProperties() //nolint:staticcheck // deprecated, and sent by the clients of today.
	}
	props := make([]runners.Property, 0, len(sent))
	for _, p := range sent {
		props = append(props, runners.Property{Name: p.GetName(), Value: p.GetValue()})
	}
	platform, err := parse(props, t.Instance.DefaultProperties, t.Overrides)
	if err != nil {
		return runners.Platform{}, err
	}
	if platform.Network == runners.NetworkHost && !t.Instance.HostNetwork {
		return runners.Platform{}, fmt.Errorf(`%w: property network is "host", which this server does not give to actions (--allow-host-network): ask for "bridge" or "off"`, runners.ErrPlatform)
	}
	t.platform = &platform
	return platform, nil
}

// estimates is what the task says it needs, as far as that is known.
func (t *Task) estimates() runners.Estimates {
	if t.platform == nil {
		return runners.Estimates{}
	}
	return t.platform.Estimates
}

func (t *Task) commandDigest() (cas.Digest, error) {
	d, err := cas.FromProto(t.ActionDigest.Function().Proto(), t.Action.GetCommandDigest())
	if err != nil {
		return cas.Digest{}, invalidf("command_digest: %v", err)
	}
	return d, nil
}

// loadCommand reads the Command unless that was done already.
func (t *Task) loadCommand(ctx context.Context, d cas.Digest) (*repb.Command, error) {
	if t.command != nil {
		return t.command, nil
	}
	command := &repb.Command{}
	return command, loadMessage(ctx, t.Store(), d, maxCommandBytes, command)
}
