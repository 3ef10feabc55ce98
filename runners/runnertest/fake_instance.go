package runnertest

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"github.com/hearth-build/hearth/runners"
)

// errKilled is the end of a command whose runner was removed.
var errKilled = errors.New("the runner was removed")

// fakeInstance is a runner of a Fake. It burns no CPU unless SetCPU says so.
type fakeInstance struct {
	fake *Fake
	spec runners.Spec

	mu      sync.Mutex // guards all below
	running bool
	frozen  bool
	removed chan struct{} // closed by Remove
	cpu     func() time.Duration
	holds   runners.Footprint
}

var _ runners.Instance = (*fakeInstance)(nil)

func newFakeInstance(f *Fake, spec runners.Spec) *fakeInstance {
	return &fakeInstance{fake: f, spec: spec, removed: make(chan struct{})}
}

// instance finds a runner, for what a test knows and the Backend's user does not.
func (f *Fake) instance(id string) *fakeInstance {
	f.host.mu.Lock()
	defer f.host.mu.Unlock()
	return f.host.instances[id]
}

// SetCPU makes cpu tell the CPU time of a runner, if it is still there.
func (f *Fake) SetCPU(id string, cpu func() time.Duration) {
	in := f.instance(id)
	if in == nil {
		return
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.cpu = cpu
}

// SetFootprint says what a runner holds, if it is still there; 0 until then.
func (f *Fake) SetFootprint(id string, holds runners.Footprint) {
	in := f.instance(id)
	if in == nil {
		return
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.holds = holds
}

// Frozen tells whether a runner is there and frozen.
func (f *Fake) Frozen(id string) bool {
	in := f.instance(id)
	if in == nil {
		return false
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.frozen
}

func (in *fakeInstance) isRemoved() bool {
	select {
	case <-in.removed:
		return true
	default:
		return false
	}
}

// Run implements runners.Runs.
func (in *fakeInstance) Run(ctx context.Context, cmd runners.Command, stdout, stderr io.Writer) (runners.Result, error) {
	if err := in.fake.enter(ctx, OpRun, in.spec.ID); err != nil {
		return runners.Result{}, err
	}
	in.mu.Lock()
	switch {
	case in.isRemoved():
		in.mu.Unlock()
		return runners.Result{}, errKilled
	case in.frozen || in.running:
		in.mu.Unlock()
		return runners.Result{}, in.fake.violate("run in %s: it is frozen or busy", in.spec.ID)
	}
	in.running = true
	in.mu.Unlock()
	defer func() {
		in.mu.Lock()
		defer in.mu.Unlock()
		in.running = false
	}()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	ended := make(chan struct{})
	watching := make(chan struct{})
	go func() {
		defer close(watching)
		select {
		case <-in.removed:
			cancel(errKilled)
		case <-ended:
		}
	}()
	defer func() { close(ended); <-watching }()
	in.fake.mu.Lock()
	program := in.fake.program
	in.fake.mu.Unlock()
	return program(ctx, Process{Command: cmd, Dir: in.spec.Dir, RunnerID: in.spec.ID, Stdout: stdout, Stderr: stderr})
}

// Freeze implements runners.Freezes.
func (in *fakeInstance) Freeze(ctx context.Context) error { return in.setFrozen(ctx, OpFreeze, true) }

// Thaw implements runners.Freezes.
func (in *fakeInstance) Thaw(ctx context.Context) error { return in.setFrozen(ctx, OpThaw, false) }

func (in *fakeInstance) setFrozen(ctx context.Context, op string, frozen bool) error {
	if err := in.fake.enter(ctx, op, in.spec.ID); err != nil {
		return err
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.isRemoved() {
		return errKilled
	}
	in.frozen = frozen
	return nil
}

// CPUTime implements runners.Instance.
func (in *fakeInstance) CPUTime(ctx context.Context) (time.Duration, error) {
	if err := in.fake.enter(ctx, OpCPUTime, in.spec.ID); err != nil {
		return 0, err
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.cpu == nil {
		return 0, nil
	}
	return in.cpu(), nil
}

// Memory implements runners.Weighs.
func (in *fakeInstance) Memory(ctx context.Context) (int64, error) {
	if err := in.fake.enter(ctx, OpMemory, in.spec.ID); err != nil {
		return 0, err
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.holds.Memory, nil
}

// Drift implements runners.Weighs.
func (in *fakeInstance) Drift(ctx context.Context) (runners.Drift, error) {
	if err := in.fake.enter(ctx, OpDrift, in.spec.ID); err != nil {
		return runners.Drift{}, err
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.holds.Disk, nil
}

// Remove implements runners.Instance.
func (in *fakeInstance) Remove(ctx context.Context) error {
	if err := in.fake.enter(ctx, OpRemove, in.spec.ID); err != nil {
		return err
	}
	return in.end()
}

func (in *fakeInstance) end() error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.isRemoved() {
		return nil
	}
	close(in.removed)
	in.fake.host.mu.Lock()
	delete(in.fake.host.instances, in.spec.ID)
	in.fake.host.mu.Unlock()
	return os.RemoveAll(in.spec.Dir + "/" + runners.WorkDirName)
}
