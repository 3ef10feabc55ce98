package execution

import (
	"context"
	"time"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/protobuf/proto"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/runners"
)

// Finished is what there is to say about a run that ended: the one record from
// which the log, the console and the command line are fed. It never changes.
// Everything that a client sent is cut to a bounded length.
type Finished struct {
	Action           cas.Digest
	Instance, Tenant string
	// Invocation, Mnemonic and Target are what the client calls its build and
	// the action.
	Invocation, Mnemonic, Target string
	// Operation is the name of the first operation that the run was started for,
	// Trace the ID of the trace that it is in, if it is in one.
	Operation, Trace string
	// Args are the first arguments of the command, if it was read.
	Args []string

	Queued, Ended time.Time
	// Phases that were reached, in their order.
	Phases []Phase

	// Cached: the result came from the action cache.
	Cached   bool
	ExitCode int32
	// Status is the name of the status code that the client got, Error the text
	// that belongs to it. A command that ran to its end is OK, whatever its exit
	// code.
	Status, Error string
	// Message is what else the client was told.
	Message string
	// Runner is the one that the action had last, with the zero ID if it had none.
	Runner runners.LeaseInfo
	// Outputs and Printed tell results apart that are not kept: of two runs of an action
	// they are the same if the exit codes and all outputs are, and if the command
	// printed the same. They are empty without a result.
	Outputs, Printed string
	// Result is the serialised ActionResult, unless the action cache has it
	// or it is too large to be kept.
	Result []byte
}

// Failed reports whether a person would want to know why it ended so.
func (f *Finished) Failed() bool { return f.Error != "" || f.ExitCode != 0 }

// Observer is told of every run that ended, before its clients are. It is
// called from many goroutines, and must be quick.
type Observer func(ctx context.Context, f *Finished)

// Observation says who is told what.
type Observation struct {
	// StatusOf names the status code that clients get for an error; nil is OK.
	StatusOf  func(err error) string
	Observers []Observer
}

// observed tells observers about each run of the Executor.
type observed struct {
	Executor
	Observation
}

// WithObservers tells observers of every run that base ends, cached ones included.
func WithObservers(base Executor, o Observation) Executor {
	return &observed{Executor: base, Observation: o}
}

// Execute implements Executor.
func (e *observed) Execute(ctx context.Context, t *Task, report Report) *Outcome {
	out := e.Executor.Execute(ctx, t, report)
	finished := e.finished(ctx, t, out)
	for _, tell := range e.Observers {
		tell(ctx, finished)
	}
	return out
}

func (e *observed) finished(ctx context.Context, t *Task, out *Outcome) *Finished {
	f := &Finished{
		Action: t.ActionDigest, Instance: t.Instance.Name, Tenant: t.Tenant,
		Invocation: t.Invocation, Mnemonic: t.Mnemonic, Target: t.Target, Args: t.args, Operation: t.Operation, Trace: t.trace,
		Queued: t.Timeline.Queued, Ended: time.Now(), Phases: t.Timeline.Phases(),
		Cached: out.Cached, ExitCode: out.Result.GetExitCode(),
		Status: e.StatusOf(out.Err), Message: cut(out.Message, maxTextBytes), Runner: t.runner,
	}
	f.Outputs, f.Printed = fingerprints(out.Result)
	if out.Err != nil {
		f.Error = cut(out.Err.Error(), maxTextBytes)
	}
	if f.Args == nil {
		f.Args = readArgs(context.WithoutCancel(ctx), t)
	}
	if out.Result != nil && !out.Cached && !cacheable(t, out) {
		f.Result = keptResult(out.Result)
	}
	return f
}

// What is kept of one run at most.
const (
	maxTextBytes   = 4 << 10
	maxArgsBytes   = 1 << 10
	maxResultBytes = 1 << 20
)

// cut shortens s to about n bytes.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return s[:n] + "..."
}

// firstArgs are the arguments of a command as far as they are worth keeping.
func firstArgs(args []string) []string {
	kept := make([]string, 0, min(len(args), 8))
	for left := maxArgsBytes; len(kept) < len(args); {
		if left <= 0 || len(kept) == cap(kept) {
			return append(kept, "...")
		}
		arg := cut(args[len(kept)], left)
		kept = append(kept, arg)
		left -= len(arg)
	}
	return kept
}

// readArgs reads the command of an action that did not get so far: its result
// was in the cache, or it failed before. It is only for people, so that a
// command that cannot be read is left out.
func readArgs(ctx context.Context, t *Task) []string {
	d, err := cas.FromProto(t.ActionDigest.Function().Proto(), t.Action.GetCommandDigest())
	if err != nil || d.Size() > maxCommandBytes/16 {
		return nil
	}
	command := &repb.Command{}
	if loadMessage(ctx, t.Store(), d, maxCommandBytes, command) != nil {
		return nil
	}
	return firstArgs(command.GetArguments())
}

func keptResult(result *repb.ActionResult) []byte {
	if proto.Size(result) > maxResultBytes {
		return nil
	}
	data, err := proto.Marshal(result)
	if err != nil {
		return nil // it cannot be shown either
	}
	return data
}
