package execution

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"github.com/google/uuid"
)

// SchedulerOptions tune a Scheduler. NewScheduler fills in defaults.
type SchedulerOptions struct {
	// OrphanGrace is how long an action goes on that nobody watches; default 1 min.
	OrphanGrace time.Duration
	// Retention is how long a finished operation can be looked up; default 5 min.
	Retention time.Duration
	// MaxFinished bounds the finished operations that are kept although their
	// clients were told the outcome; default 1,000.
	MaxFinished int
	// Logger is told of runs that wait for long; default none.
	Logger *slog.Logger
}

// Validate names every field that cannot be used.
func (o *SchedulerOptions) Validate() error {
	var errs []error
	if o.OrphanGrace < 0 {
		errs = append(errs, fmt.Errorf("orphan-grace is %v: it cannot be negative", o.OrphanGrace))
	}
	if o.Retention < 0 {
		errs = append(errs, fmt.Errorf("retention is %v: it cannot be negative", o.Retention))
	}
	if o.MaxFinished < 0 {
		errs = append(errs, fmt.Errorf("max-finished is %d: it cannot be negative", o.MaxFinished))
	}
	return errors.Join(errs...)
}

func (o *SchedulerOptions) setDefaults() {
	if o.OrphanGrace == 0 {
		o.OrphanGrace = time.Minute
	}
	if o.Retention == 0 {
		o.Retention = 5 * time.Minute
	}
	if o.MaxFinished == 0 {
		o.MaxFinished = 1000
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

// Scheduler decides which requests share a run and when a run starts. Each run
// has a goroutine of the Scheduler's; Close waits for them.
type Scheduler struct {
	executor Executor
	opts     SchedulerOptions
	slots    *Slots
	// Runs outlive the calls that asked for them, but not this.
	ctx    context.Context //nolint:containedctx // the lifetime of the scheduler's own goroutines.
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup

	mu         sync.Mutex // guards what follows, run.operations and Operation.detached; taken before that of slots
	draining   bool
	made       uint64            // operations so far
	runs       map[mergeKey]*run // in flight and open to others
	operations map[string]*Operation
	finished   []*Operation // told to their clients, oldest first
}

// NewScheduler returns a Scheduler that runs tasks with executor, whose
// admission decorator works with the same slots.
func NewScheduler(executor Executor, slots *Slots, opts SchedulerOptions) (*Scheduler, error) {
	opts.setDefaults()
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	s := &Scheduler{
		executor:   executor,
		opts:       opts,
		slots:      slots,
		runs:       map[mergeKey]*run{},
		operations: map[string]*Operation{},
	}
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	return s, nil
}

// Submit starts a run for the request, or joins one in flight of the same
// action. The run outlives ctx. The caller watches the operation it gets.
func (s *Scheduler) Submit(ctx context.Context, req *Request) (*Operation, error) {
	action, err := findAction(ctx, req)
	if err != nil {
		return nil, err
	}
	op := &Operation{name: "operations/" + uuid.NewString(), request: req, place: req.place(), scheduler: s}
	key := keyOf(req, action)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining {
		return nil, ErrDraining
	}
	// Who wants no cached result cannot join a run that may still find one.
	if r := s.runs[key]; r != nil && (!req.SkipCacheLookup || r.fresh()) {
		s.attach(op, r)
		return op, nil
	}
	s.start(op, action, key)
	return op, nil
}

// keyOf returns the key of requests that may share the run. What may not be
// cached may not be shared either, nor what has room of its own, which it takes along.
func keyOf(req *Request, action *repb.Action) mergeKey {
	if action.GetDoNotCache() || req.Assigned.room() != nil {
		return mergeKey{}
	}
	return mergeKey{
		tenant:    req.Tenant,
		instance:  req.Instance.Name,
		overrides: fmt.Sprintf("%q", req.Overrides),
		action:    req.Action,
	}
}

// attach makes op a handle on r. The Scheduler is locked.
func (s *Scheduler) attach(op *Operation, r *run) {
	s.made++
	op.number = s.made
	op.run = r
	r.operations++
	s.operations[op.name] = op
	s.slots.join(r.task.ticket, op.place)
}

// start begins a run for op. The Scheduler is locked.
func (s *Scheduler) start(op *Operation, action *repb.Action, key mergeKey) {
	req := op.request
	task := &Task{
		Instance:        req.Instance,
		Tenant:          req.Tenant,
		ActionDigest:    req.Action,
		Action:          action,
		SkipCacheLookup: req.SkipCacheLookup,
		Overrides:       req.Overrides,
		Invocation:      req.Invocation,
		Mnemonic:        req.Mnemonic,
		Target:          req.Target,
		Span:            req.Span,
		Operation:       op.name,
		Assigned:        req.Assigned,
		Timeline:        Timeline{Queued: time.Now()},
		command:         req.Assigned.command(),
	}
	r := newRun(task, key, s.opts.Logger)
	task.ticket = newTicket(task, r.waits)
	var ctx context.Context
	ctx, r.cancel = context.WithCancelCause(req.Assigned.within(s.ctx))
	if key != (mergeKey{}) {
		s.runs[key] = r
	}
	s.attach(op, r)
	s.wg.Go(func() { s.execute(ctx, r) })
}

// execute takes a run to its end.
func (s *Scheduler) execute(ctx context.Context, r *run) {
	defer r.cancel(nil)
	out := s.executor.Execute(ctx, r.task, r.report)
	if cause := context.Cause(ctx); cause != nil && out.Err != nil && !errors.Is(out.Err, cause) {
		out.Err = fmt.Errorf("%w (%v)", cause, out.Err) // whatever failed, failed since it was cancelled
	}
	s.close(r)
	r.complete(out)
}

// close lets nobody else join the run.
func (s *Scheduler) close(r *run) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.runs[r.key] == r {
		delete(s.runs, r.key)
	}
}

// Operation finds an operation of a tenant by its name.
func (s *Scheduler) Operation(tenant, name string) (*Operation, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	op, ok := s.operations[name]
	if !ok || op.request.Tenant != tenant {
		return nil, false
	}
	return op, true
}

// Operations returns the first limit operations with a number above after that are
// wanted, by their numbers.
func (s *Scheduler) Operations(after uint64, limit int, wanted func(*Operation) bool) []*Operation {
	var found []*Operation
	s.mu.Lock()
	for _, op := range s.operations {
		if op.number > after && wanted(op) {
			found = append(found, op)
		}
	}
	s.mu.Unlock()
	slices.SortFunc(found, func(a, b *Operation) int { return cmp.Compare(a.number, b.number) })
	return found[:min(limit, len(found))]
}

// Delete makes an operation one that cannot be found any more. Its run goes on.
func (s *Scheduler) Delete(op *Operation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.operations, op.name)
}

// retire keeps a finished operation whose client knows the outcome, in case
// the client asks again, until there are too many.
func (s *Scheduler) retire(op *Operation) {
	s.mu.Lock()
	s.finished = append(s.finished, op)
	var oldest *Operation
	if len(s.finished) > s.opts.MaxFinished {
		oldest = s.finished[0]
		s.finished[0] = nil
		s.finished = s.finished[1:]
	}
	s.mu.Unlock()
	if oldest != nil {
		oldest.drop()
	}
}

// forget drops the operation, and ends its run if no other shares it. A deleted
// one is gone already, and its run goes on.
func (s *Scheduler) forget(op *Operation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.operations[op.name] == op {
		delete(s.operations, op.name)
		s.detachLocked(op, fmt.Errorf("%w: its client is gone", ErrCancelled))
	}
}

// detach takes the operation's say in its run away. It reports whether the run
// goes on for others; if not, it is cancelled.
func (s *Scheduler) detach(op *Operation, why error) (shared bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.detachLocked(op, why)
}

func (s *Scheduler) detachLocked(op *Operation, why error) (shared bool) {
	r := op.run
	if op.detached {
		return false
	}
	op.detached = true
	r.operations--
	s.slots.withdraw(r.task.ticket, op.place)
	if r.operations > 0 {
		return true
	}
	if s.runs[r.key] == r {
		delete(s.runs, r.key) // nobody may join a run that is being cancelled
	}
	r.cancel(why)
	return false
}

// Load is how busy a Scheduler is.
type Load struct {
	Running, Queued, Operations int
	// Busy is the share, up to 1, that runs use of what there is least left of: CPU,
	// memory, runners or another resource.
	Busy float64
}

// Load counts the runs.
func (s *Scheduler) Load() Load {
	running, queued, busy := s.slots.load()
	s.mu.Lock()
	defer s.mu.Unlock()
	return Load{Running: running, Queued: queued, Operations: len(s.operations), Busy: busy}
}

// Close takes no more requests, lets those that wait for admission wait, and
// waits for the runs in flight; when none is left, those that wait are sent away.
// When ctx ends all are cancelled, and Close waits for that too.
func (s *Scheduler) Close(ctx context.Context) error {
	s.mu.Lock()
	s.draining = true
	s.mu.Unlock()
	s.slots.drain()
	done := make(chan struct{})
	go func() { // ends with the runs, for which this function waits
		defer close(done)
		s.wg.Wait()
	}()
	var err error
	select {
	case <-done:
	case <-ctx.Done():
		err = fmt.Errorf("actions were cancelled: %w", context.Cause(ctx))
		s.cancel(fmt.Errorf("%w: %w", ErrCancelled, ErrDraining))
		<-done
	}
	s.cancel(ErrDraining)
	return err
}
