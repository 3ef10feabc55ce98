package execution

import (
	"math"
	"slices"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/tree"
	"github.com/hearth-build/hearth/runners"
)

// Plan is how an action is run, for a person who wants to do it by hand.
type Plan struct {
	Platform runners.Platform
	// Outputs says what the input root is made ready for, in the directory RootName of
	// the runner's work directory.
	Outputs tree.Outputs

	job *job
}

// RootName is the input root's name in the runner's work directory.
const RootName = rootName

// PlanOptions are the platform properties that an action gets beside its own.
type PlanOptions struct {
	// Defaults are the server's, which the action's prevail over, and Overrides
	// prevail over the action's.
	Defaults, Overrides []runners.Property
	// HostNetwork: actions may ask for the host's own network.
	HostNetwork bool
}

// NewPlan says how a server would run the action, whose digests are of the
// function f.
func NewPlan(a *repb.Action, command *repb.Command, f cas.Function, opts PlanOptions) (*Plan, error) {
	e := &action{ActionOptions{MaxTimeout: math.MaxInt64}}
	j, err := e.newJob(&Task{
		Instance: &Instance{DefaultProperties: opts.Defaults, HostNetwork: opts.HostNetwork}, Action: a, ActionDigest: f.Empty(), Overrides: opts.Overrides,
	}, command)
	if err != nil {
		return nil, err
	}
	return &Plan{Platform: j.platform, Outputs: j.outputs, job: j}, nil
}

// Stage says how the input root is laid out for a container.
func (p *Plan) Stage(container runners.Instance) tree.StageOptions {
	return p.job.stageOptions(runners.RootOf(container))
}

// Command is what is run in a container of the image.
func (p *Plan) Command(image runners.Image) runners.Command {
	command := p.job.command
	command.Env = WithImageEnv(slices.Clip(command.Env), image.Env)
	return command
}
