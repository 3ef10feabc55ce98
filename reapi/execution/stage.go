package execution

import (
	"context"
	"errors"
	"fmt"

	"github.com/hearth-build/hearth/cas/tree"
	"github.com/hearth-build/hearth/runners"
)

// bench is what stays with a runner from one action to the next.
type bench struct {
	workspace *tree.Workspace // nil until an action needs one
	log       tail            // of its workers
	// failures of workers since one has answered.
	failures int
}

// bench returns the runner's.
func (a *attempt) bench() *bench {
	belongings := a.lease.Belongings()
	b, ok := (*belongings).(*bench)
	if !ok {
		b = &bench{}
		*belongings = b
	}
	return b
}

// keepsInputs tells whether inputs stay in the runner for the next action.
func (j *job) keepsInputs() bool { return j.platform.Worker.On() || j.platform.Workspace.Preserve }

// heldIn tells how many of the job's inputs are in a runner; nil: none ever are.
func (j *job) heldIn() func(belongings any) int {
	if !j.keepsInputs() {
		return nil
	}
	return func(belongings any) int {
		b, ok := belongings.(*bench)
		if !ok || b.workspace == nil {
			return 0
		}
		return b.workspace.Holds(j.inputs)
	}
}

// stage makes the input root appear: in a directory that stays the same for a worker
// that goes on in it, or for what actions leave to each other there.
func (a *attempt) stage(ctx context.Context) (err error) {
	platform, opts := a.job.platform, a.stageOptions()
	stager := a.task.Instance.Stager
	workspaces, ok := stager.(tree.Workspaces)
	if !ok || !a.job.keepsInputs() {
		a.staged, err = stager.Stage(ctx, a.job.inputs, a.root, opts)
		return stageError(err)
	}
	b := a.bench()
	if b.workspace == nil {
		b.workspace = workspaces.Workspace(a.root)
	}
	a.staged, err = b.workspace.Stage(ctx, a.job.inputs, tree.WorkspaceOptions{
		StageOptions: opts, Preserve: platform.Workspace.Preserve, Clean: platform.Workspace.Clean, Outputs: a.job.outputs,
	})
	if errors.Is(err, tree.ErrReplaced) { // not by this action
		a.lease.Discard(fmt.Sprintf("its input root cannot be used: %v", err))
		return fmt.Errorf("%w: %w", runners.ErrLost, err)
	}
	return stageError(err)
}

func (a *attempt) stageOptions() tree.StageOptions { return a.job.stageOptions(a.lease.Root()) }

func stageError(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("stage the input root: %w", err)
}

// unstage takes away what stage made, and what the action did there.
func (a *attempt) unstage() error {
	if a.staged == nil {
		return nil // it failed to be staged again
	}
	staged := a.staged
	a.staged = nil
	return staged.Remove()
}

// restage makes everything as it was before the command.
func (a *attempt) restage(ctx context.Context) error {
	if err := a.unstage(); err != nil {
		return fmt.Errorf("%w: %w", runners.ErrLost, err)
	}
	if err := a.stage(ctx); err != nil {
		return err
	}
	return tree.Prepare(a.root, a.job.outputs, a.stageOptions())
}

// tail keeps the end of what is written to it.
type tail struct{ kept []byte }

// tailBytes is how much it keeps.
const tailBytes = 64 << 10

// Write implements io.Writer.
func (t *tail) Write(p []byte) (int, error) {
	t.kept = append(t.kept, p...)
	if over := len(t.kept) - tailBytes; over > 0 {
		t.kept = append(t.kept[:0], t.kept[over:]...)
	}
	return len(p), nil
}

// last returns the last bytes of the end.
func (t *tail) last(n int) []byte { return t.kept[max(0, len(t.kept)-n):] }
