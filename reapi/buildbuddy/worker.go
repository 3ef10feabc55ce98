package buildbuddy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"

	"github.com/hearth-build/hearth/reapi/buildbuddy/buildbuddypb"
	"github.com/hearth-build/hearth/reapi/cluster"
	"github.com/hearth-build/hearth/reapi/execution"
)

// Options are what a Worker is made of.
type Options struct {
	// Conn is the connection to the app, with Credentials.
	Conn grpc.ClientConnInterface
	// Actions run what the app sends.
	Actions cluster.Actions
	Node    Node
	// Ready says why no action can be run here now, if so. It is called often.
	Ready func(ctx context.Context) error
	// Logger is told of an app that fails, and of tasks that are given back. Default:
	// none.
	Logger *slog.Logger
}

// Node is what the app is told of this machine.
type Node struct {
	// ID tells this process from others. HostID tells the machine from others, and is
	// what results say that they were made on.
	ID, HostID string
	Hostname   string
	// Pool is what clients choose machines by; "" is the default one.
	Pool          string
	Arch, Version string
	// Resources are what actions can have here, CPUs the largest number of actions at a time.
	Resources execution.Resources
}

// Validate names every field that cannot be used.
func (o *Options) Validate() error {
	errs := []error{o.Actions.Validate()}
	if o.Conn == nil || o.Ready == nil {
		errs = append(errs, errors.New("the connection to the app or the check of readiness is missing"))
	}
	for name, value := range map[string]string{"ID": o.Node.ID, "host ID": o.Node.HostID, "hostname": o.Node.Hostname, "architecture": o.Node.Arch} {
		if value == "" {
			errs = append(errs, fmt.Errorf("the worker's %s is empty: the app could not tell workers apart", name))
		}
	}
	if err := o.Node.Resources.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("the worker's resources: %w", err))
	}
	return errors.Join(errs...)
}

// Worker takes tasks from an app.
type Worker struct {
	opts   Options
	client buildbuddypb.SchedulerClient
	tasks  sync.WaitGroup
	leased atomic.Int64 // tasks that this machine has

	mu     sync.Mutex        // guards what follows
	offers map[string]*offer // by the IDs of their tasks
}

// NewWorker checks the options.
func NewWorker(o Options) (*Worker, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Worker{opts: o, client: buildbuddypb.NewSchedulerClient(o.Conn), offers: map[string]*offer{}}, nil
}

// Busy is how many CPUs' worth of actions this machine has, if each takes one, and how
// many there are.
func (w *Worker) Busy() (busy, slots int) {
	slots = int(w.opts.Node.Resources.MilliCPU / 1000)
	return min(int(w.leased.Load()), slots), slots
}

// Run takes tasks until ctx ends. Then it takes no more, gives those back at once that
// were offered or whose command does not run yet, and returns when the others have
// ended and the app knows of it. When handBack is closed it gives those back as well.
func (w *Worker) Run(ctx context.Context, handBack <-chan struct{}) {
	var failures cluster.Backoff
	for ctx.Err() == nil {
		registered, err := w.session(ctx, handBack)
		if ctx.Err() != nil {
			break
		}
		if registered {
			failures.Reset()
		}
		if failures.First() {
			w.opts.Logger.Warn("no tasks are offered until this is over", "error", err)
		} else {
			w.opts.Logger.Debug("still no tasks are offered", "error", err)
		}
		failures.Wait(ctx)
	}
	w.tasks.Wait()
}

// offer is a task that the app offered and that is not leased yet.
type offer struct {
	id     string
	ctx    context.Context //nolint:containedctx // ends with the offer.
	cancel context.CancelCauseFunc
}

// accept notes the offer of a task, unless there is one already.
func (w *Worker) accept(ctx context.Context, id string) (o *offer, fresh bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.offers[id] != nil {
		return nil, false
	}
	o = &offer{id: id}
	o.ctx, o.cancel = context.WithCancelCause(ctx)
	w.offers[id] = o
	return o, true
}

// decline ends the offer of a task, if there is one.
func (w *Worker) decline(id string, why error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if o := w.offers[id]; o != nil {
		o.cancel(why)
		delete(w.offers, id)
	}
}

// declineAll ends all offers, and returns the IDs of the tasks.
func (w *Worker) declineAll(why error) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	ids := make([]string, 0, len(w.offers))
	for id, o := range w.offers {
		o.cancel(why)
		ids = append(ids, id)
	}
	clear(w.offers)
	return ids
}

// settle makes an offer one that this machine takes up or lets go, which it reports
// false of if it is over already.
func (w *Worker) settle(o *offer) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.offers[o.id] != o {
		return false
	}
	delete(w.offers, o.id)
	stands := o.ctx.Err() == nil
	o.cancel(nil)
	return stands
}

// offered counts the tasks that were offered and not leased yet.
func (w *Worker) offered() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.offers)
}
