package console

import (
	"net/http"
	"time"
)

// Described is what the store has of an action, for programs. It is told of the last of
// an action's runs, and left out of lists.
type Described struct {
	// Problem is why there is nothing, or not everything.
	Problem string `json:"problem,omitempty"`

	Arguments        []string      `json:"arguments,omitempty"`
	Environment      []Variable    `json:"environment,omitempty"`
	WorkingDirectory string        `json:"working_directory,omitempty"`
	Timeout          time.Duration `json:"timeout_ns,omitempty"`
	DoNotCache       bool          `json:"do_not_cache,omitempty"`
	// Platform are the properties that count, without secrets.
	Platform []Variable `json:"platform,omitempty"`
	// Inputs are what is at the top of the input root, Outputs what the action made.
	Inputs  []Entry  `json:"inputs,omitempty"`
	Outputs []Output `json:"outputs,omitempty"`
	// Reproduce are command lines with which it can be run again.
	Reproduce []Recipe `json:"reproduce,omitempty"`
}

// Variable is a name with a value.
type Variable struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// describe adds to the last run what the store has.
func (p *pages) describe(r *http.Request, runs []*Action) {
	last := runs[0]
	shown := &ActionPage{
		Runs: compared(runs), Digest: last.Digest, Function: last.DigestFunction, Instance: last.Instance, Tenant: last.Tenant,
	}
	shown.Details = p.details(r, shown)
	d := shown.Details
	told := &Described{
		Problem: d.Problem, Arguments: d.Command.GetArguments(), WorkingDirectory: d.Command.GetWorkingDirectory(),
		Timeout: d.Action.GetTimeout().AsDuration(), DoNotCache: d.Action.GetDoNotCache(), Outputs: d.Outputs, Reproduce: p.recipes(r, shown),
	}
	for _, v := range d.Variables() {
		told.Environment = append(told.Environment, Variable{v.GetName(), v.GetValue()})
	}
	for _, property := range d.Platform {
		told.Platform = append(told.Platform, Variable(property))
	}
	if d.Inputs != nil {
		told.Inputs = d.Inputs.Entries
	}
	last.Details = told
}
