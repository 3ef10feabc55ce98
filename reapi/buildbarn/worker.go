package buildbarn

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"github.com/buildbarn/bb-remote-execution/pkg/proto/remoteworker"

	"github.com/hearth-build/hearth/reapi"
	"github.com/hearth-build/hearth/runners"
)

// Options are what a Worker is made of.
type Options struct {
	// Queue is the scheduler, Actions run what it sends.
	Queue   remoteworker.OperationQueueClient
	Actions *Actions
	// Slots is how many actions this machine takes at a time.
	Slots int
	// ID tells this machine from others; each slot adds its number. A worker that is
	// started again should have the same.
	ID map[string]string
	// Platform is what the scheduler compares with the properties of an action: they
	// must be the same, all of them.
	Platform []runners.Property
	// SizeClass is 0 where the scheduler knows of none.
	SizeClass uint32
	// Ready says why no action can be run here now, if so. It is called often.
	Ready func(ctx context.Context) error
	// Logger is told of a scheduler that fails. Default: none.
	Logger *slog.Logger
}

// slotLabel is what a slot adds to the ID, as bb_worker does.
const slotLabel = "thread"

// Validate names every field that cannot be used.
func (o *Options) Validate() error {
	var errs []error
	if o.Queue == nil || o.Actions == nil || o.Ready == nil {
		errs = append(errs, errors.New("the scheduler, what runs actions or the check of readiness is missing"))
	}
	if o.Slots < 1 {
		errs = append(errs, fmt.Errorf("slots is %d: it must be at least 1", o.Slots))
	}
	if len(o.ID) == 0 {
		errs = append(errs, errors.New("the worker's ID is empty: the scheduler could not tell workers apart"))
	}
	if _, ok := o.ID[slotLabel]; ok {
		errs = append(errs, fmt.Errorf("the worker's ID has the label %q, which is for its slots", slotLabel))
	}
	for _, p := range o.Platform {
		if p.Name == "" {
			errs = append(errs, fmt.Errorf("a platform property with the value %q has no name", p.Value))
		}
	}
	return errors.Join(errs...)
}

// Worker takes actions from a scheduler.
type Worker struct {
	opts     Options
	platform *repb.Platform
	busy     atomic.Int64 // slots that have an action
}

// NewWorker checks the options.
func NewWorker(o Options) (*Worker, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Worker{opts: o, platform: platformOf(o.Platform)}, nil
}

// platformOf sorts properties, without which the scheduler refuses them.
func platformOf(properties []runners.Property) *repb.Platform {
	sorted := slices.SortedFunc(slices.Values(properties), func(a, b runners.Property) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Value, b.Value))
	})
	platform := &repb.Platform{}
	for _, p := range sorted {
		platform.Properties = append(platform.Properties, &repb.Platform_Property{Name: p.Name, Value: p.Value})
	}
	return platform
}

// Busy is how many slots have an action, and how many there are.
func (w *Worker) Busy() (busy, slots int) { return int(w.busy.Load()), w.opts.Slots }

// leaveTimeout is how long it is tried to tell the scheduler of actions that were
// handed back.
const leaveTimeout = 15 * time.Second

// Run takes actions until ctx ends. Then it takes no more, hands those back whose
// command does not run yet, and returns when the others have ended and the scheduler
// knows of it. When handBack is closed it hands those back as well. Handed back is
// what ends with a status after which a client tries again: the protocol has no way
// to give an action to another worker.
func (w *Worker) Run(ctx context.Context, handBack <-chan struct{}) {
	last, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	stop := w.leaveInTime(last, handBack, cancel)
	defer stop()
	var slots sync.WaitGroup
	for i := range w.opts.Slots {
		s := &slot{worker: w, id: maps.Clone(w.opts.ID), handBack: handBack, last: last}
		s.id[slotLabel] = strconv.Itoa(i)
		s.log = w.opts.Logger.With(slotLabel, i)
		slots.Go(func() { s.run(ctx) })
	}
	slots.Wait()
}

// leaveInTime gives a scheduler up that does not answer at the end.
func (w *Worker) leaveInTime(last context.Context, handBack <-chan struct{}, cancel context.CancelCauseFunc) (stop func()) {
	var wait sync.WaitGroup
	stopped := make(chan struct{})
	wait.Go(func() {
		select {
		case <-handBack:
		case <-stopped:
			return
		}
		timer := time.NewTimer(leaveTimeout)
		defer timer.Stop()
		select {
		case <-timer.C:
			cancel(fmt.Errorf("the scheduler has not answered for %v", leaveTimeout))
		case <-stopped:
		case <-last.Done():
		}
	})
	return func() { close(stopped); wait.Wait() }
}

// CheckPrefix says what is wrong with an instance name prefix, if anything.
func CheckPrefix(prefix string) error { return reapi.CheckInstanceName(prefix) }
