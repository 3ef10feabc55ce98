package runnertest

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/hearth-build/hearth/runners"
)

// The calls of a Backend and its Instances, as Fake's hooks and counts name them.
const (
	OpResolve = "resolve"
	OpStart   = "start"
	OpRun     = "run"
	OpFreeze  = "freeze"
	OpThaw    = "thaw"
	OpCPUTime = "cpu time"
	OpMemory  = "memory"
	OpDrift   = "drift"
	OpRemove  = "remove"
)

// Fake is a Backend in memory. Its zero value is not usable; see NewFake.
type Fake struct {
	host *fakeHost

	mu         sync.Mutex // guards all below
	program    Program
	hook       Hook
	ids        map[string]string // of images
	counts     map[string]int
	violations []string
}

var _ runners.Backend = (*Fake)(nil)

// fakeHost is what outlives a Fake, as containers outlive hearth.
type fakeHost struct {
	mu        sync.Mutex // guards instances; taken after all other locks here
	instances map[string]*fakeInstance
}

// Hook is called before each call does anything, with the ID of the runner, or
// the name of the image. An error makes the call fail, to block makes it hang.
type Hook func(ctx context.Context, op, id string) error

// NewFake returns a Fake on a host of its own, whose commands are Builtins.
func NewFake() *Fake { return newFake(&fakeHost{instances: map[string]*fakeInstance{}}) }

func newFake(host *fakeHost) *Fake {
	return &Fake{host: host, program: Builtins, ids: map[string]string{}, counts: map[string]int{}}
}

// Restarted returns a new Fake on the host of f, as after a crash of hearth.
func (f *Fake) Restarted() *Fake { return newFake(f.host) }

// SetProgram makes p what every command runs.
func (f *Fake) SetProgram(p Program) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.program = p
}

// SetHook makes h the hook; nil removes it.
func (f *Fake) SetHook(h Hook) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hook = h
}

// SetImageID moves an image name to another ID.
func (f *Fake) SetImageID(name, id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ids[name] = id
}

// Count says how often a call was made, failed ones included.
func (f *Fake) Count(op string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.counts[op]
}

// Violations describes all calls that the contract forbids.
func (f *Fake) Violations() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.violations)
}

// Live returns the IDs of the runners on the host, sorted.
func (f *Fake) Live() []string {
	f.host.mu.Lock()
	defer f.host.mu.Unlock()
	return slices.Sorted(maps.Keys(f.host.instances))
}

// enter counts a call and runs the hook.
func (f *Fake) enter(ctx context.Context, op, id string) error {
	f.mu.Lock()
	f.counts[op]++
	hook := f.hook
	f.mu.Unlock()
	if hook != nil {
		if err := hook(ctx, op, id); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (f *Fake) violate(format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.violations = append(f.violations, err.Error())
	return err
}

// Resolve implements runners.Backend.
func (f *Fake) Resolve(ctx context.Context, ref runners.ImageRef) (runners.Image, error) {
	if err := f.enter(ctx, OpResolve, ref.Name); err != nil {
		return runners.Image{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	id := f.ids[ref.Name]
	if id == "" {
		id = "id-of-" + ref.Name
	}
	return runners.Image{Name: ref.Name, ID: id, Env: []string{"PATH=/bin"}}, nil
}

// PullingFake is a Fake that tells how its pulls go on.
type PullingFake struct {
	*Fake

	// Say is called with what tells those who wait, before the image is looked up.
	Say func(tell func(said string))
}

var _ runners.PullTeller = (*PullingFake)(nil)

// ResolveTelling implements runners.PullTeller.
func (f *PullingFake) ResolveTelling(ctx context.Context, ref runners.ImageRef, tell func(said string)) (runners.Image, error) {
	f.Say(tell)
	return f.Resolve(ctx, ref)
}

// Start implements runners.Backend.
func (f *Fake) Start(ctx context.Context, spec runners.Spec) (runners.Instance, error) {
	if err := f.enter(ctx, OpStart, spec.ID); err != nil {
		return nil, err
	}
	if entries, err := os.ReadDir(spec.Dir); err != nil || len(entries) > 0 {
		return nil, f.violate("start %s: its directory has %d entries (%v); it must be there and empty", spec.ID, len(entries), err)
	}
	in := newFakeInstance(f, spec)
	if err := os.Mkdir(filepath.Join(spec.Dir, runners.WorkDirName), 0o755); err != nil {
		return nil, fmt.Errorf("make the work directory: %w", err)
	}
	f.host.mu.Lock()
	defer f.host.mu.Unlock()
	if f.host.instances[spec.ID] != nil {
		return nil, f.violate("start %s: it is there already", spec.ID)
	}
	f.host.instances[spec.ID] = in
	return in, nil
}

// Sweep implements runners.Backend.
func (f *Fake) Sweep(context.Context) (int, error) {
	f.host.mu.Lock()
	var old []*fakeInstance
	for _, in := range f.host.instances {
		if in.fake != f {
			old = append(old, in)
		}
	}
	f.host.mu.Unlock()
	for _, in := range old {
		if err := in.end(); err != nil {
			return 0, err
		}
		if err := os.RemoveAll(in.spec.Dir); err != nil {
			return 0, err
		}
	}
	return len(old), nil
}
