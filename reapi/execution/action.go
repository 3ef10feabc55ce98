package execution

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"

	"github.com/hearth-build/hearth/cas/tree"
	"github.com/hearth-build/hearth/reapi/execution/actionpb"
	"github.com/hearth-build/hearth/runners"
)

// ActionOptions is what running an action needs.
type ActionOptions struct {
	Pool *runners.Pool
	// DefaultTimeout is for actions that set none, MaxTimeout what an action may set.
	DefaultTimeout, MaxTimeout time.Duration
	// SpoolDir holds what commands print while it is too much for memory.
	SpoolDir string
	// MaxPrinted bounds stdout and stderr, each.
	MaxPrinted int64
}

// action is the Executor that really runs an action.
type action struct{ ActionOptions }

// NewAction returns the Executor at the bottom of the stack.
func NewAction(opts ActionOptions) Executor { return &action{opts} }

// rootName is the input root's name in the runner's work directory. Its path in
// the container is the same for each action and runner.
const rootName = "root"

// Execute implements Executor.
func (e *action) Execute(ctx context.Context, t *Task, report Report) *Outcome {
	t.Enter(report, Progress{Step: StepCheck})
	job, err := e.load(ctx, t)
	if err != nil {
		return failed(err)
	}
	defer job.release()
	lease, err := e.Pool.Acquire(ctx, runners.Request{
		Platform: job.platform, Tenant: t.Tenant, Instance: t.Instance.Name,
		OnStep: func(step runners.Step, why string) { t.Enter(report, acquiring(step, why)) },
		Holds:  job.heldIn(),
	})
	if err != nil {
		return failed(err)
	}
	defer lease.Release() // it knows itself of all that makes the runner unfit for another
	t.runner = lease.Info()
	a := &attempt{task: t, job: job, report: report, lease: lease, root: filepath.Join(lease.Dir(), rootName)}
	return a.run(ctx, e.SpoolDir, e.MaxPrinted)
}

// attempt is one try to run a job in one runner.
type attempt struct {
	task   *Task
	job    *job
	report Report
	lease  *runners.Lease
	// root is where the input root is on the host, as staged has it.
	root    string
	staged  tree.Staged
	printed *printed
	// Of a persistent worker: which one it was, and what a person should know of it.
	worker actionpb.Runner_Worker
	note   string
}

// run stages, runs and captures.
func (a *attempt) run(ctx context.Context, spoolDir string, maxPrinted int64) *Outcome {
	a.task.Enter(a.report, Progress{Step: StepInputs, Reason: "fetching the inputs"})
	if err := a.stage(ctx); err != nil {
		return failed(err)
	}
	defer func() {
		a.task.Timeline.Cleanup = time.Now()
		if err := a.unstage(); err != nil {
			a.lease.Discard(fmt.Sprintf("its input root could not be removed: %v", err))
		}
		a.lookBeside()
	}()
	if err := tree.Prepare(a.root, a.job.outputs, a.stageOptions()); err != nil {
		return failed(err)
	}

	a.printed = newPrinted(spoolDir, maxPrinted)
	defer a.publish()()
	a.job.command.Env = WithImageEnv(a.job.command.Env, a.lease.Image().Env)
	res, err := a.execute(ctx)
	a.task.Enter(a.report, Progress{Step: StepOutputs})
	if err != nil {
		return failed(a.runError(ctx, err))
	}
	a.task.Timeline.Virtual = res.Duration
	a.retireIfAsked()
	out := a.collect(ctx, res)
	out.Message = joinMessages(joinMessages(out.Message, a.note), changedInputs(a.staged, a.job.outputs))
	a.judge(res, out)
	return out
}

// lookBeside gives the runner up if the action left anything beside its input
// root, where root may write: others would find it.
func (a *attempt) lookBeside() {
	if a.job.command.UID != 0 {
		return
	}
	entries, err := os.ReadDir(a.lease.Dir())
	if err != nil {
		a.lease.Discard(fmt.Sprintf("its work directory could not be read: %v", err))
	}
	for _, e := range entries {
		if e.Name() != rootName {
			a.lease.Discard(fmt.Sprintf("its last action left %.100q beside its input root", e.Name()))
		}
	}
}

// collect turns what the command left into an outcome.
func (a *attempt) collect(ctx context.Context, res runners.Result) *Outcome {
	out := &Outcome{Message: a.explain(res)}
	if res.TimedOut {
		out.Err = fmt.Errorf("%w after %v", ErrTimeout, a.job.command.Timeout)
	}
	result, err := tree.Capture(ctx, a.task.Store(), a.root, a.job.outputs)
	if result == nil {
		result = &repb.ActionResult{}
	}
	// What was printed may explain what is wrong with the outputs.
	err = errors.Join(err, a.printed.store(ctx, a.task.Store(), a.task.ActionDigest.Function(), result))
	result.ExitCode = ExitCode(res)
	auxiliary, auxErr := a.auxiliary(res)
	result.ExecutionMetadata = &repb.ExecutedActionMetadata{AuxiliaryMetadata: auxiliary}
	out.Result = result
	// The first error says why; a timeout also explains outputs that are amiss.
	if err = errors.Join(err, auxErr); err != nil && out.Err == nil {
		out.Err = fmt.Errorf("collect outputs: %w", err)
	}
	return out
}

// runError makes the client's mistakes plain, and a cancelled run a cancelled one.
func (a *attempt) runError(ctx context.Context, err error) error {
	var start *runners.StartError
	switch {
	case errors.As(err, &start) && !start.Fault():
		return invalidf("%s (container image %s)", start.Message, a.job.platform.Image.Name)
	case ctx.Err() != nil:
		return context.Cause(ctx)
	default:
		return err // of the runner, or of what takes the output
	}
}
