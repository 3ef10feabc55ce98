package execution

import (
	"context"
	"errors"
	"fmt"
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

	mu         sync.Mutex // guards what follows, and run.operations
	draining   bool
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
	action, err := loadAction(ctx, req)
	if err != nil {
		return nil, err
	}
	op := &Operation{name: "operations/" + uuid.NewString(), request: req, scheduler: s}
	key := keyOf(req, action)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining {
		return nil, ErrDraining
	}
	if r := s.runs[key]; r != nil {
		s.slots.raise(r.task.ticket, req.Priority)
		s.attach(op, r)
		return op, nil
	}
	s.attach(op, s.start(req, action, key))
	return op, nil
}

// keyOf returns the key of requests that may share the run. What may not be
// cached may not be shared either.
func keyOf(req *Request, action *repb.Action) mergeKey {
	if action.GetDoNotCache() {
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
	op.run = r
	r.operations++
	s.operations[op.name] = op
}

// start begins a run. The Scheduler is locked.
func (s *Scheduler) start(req *Request, action *repb.Action, key mergeKey) *run {
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
		Timeline:        Timeline{Queued: time.Now()},
		ticket:          newTicket(req.Priority),
	}
	ctx, cancel := context.WithCancelCause(s.ctx)
	r := newRun(task, key, cancel)
	if key != (mergeKey{}) {
		s.runs[key] = r
	}
	s.wg.Go(func() {
		defer cancel(nil)
		out := s.executor.Execute(ctx, task, r.report)
		s.close(r)
		r.complete(out)
	})
	return r
}

// close lets nobody else join the run.
func (s *Scheduler) close(r *run) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.runs[r.key] == r {
		delete(s.runs, r.key)
	}
}

// Operation finds an operation by its name.
func (s *Scheduler) Operation(name string) (*Operation, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	op, ok := s.operations[name]
	return op, ok
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

// forget drops the operation, and ends its run if no other shares it.
func (s *Scheduler) forget(op *Operation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.operations[op.name] != op {
		return
	}
	delete(s.operations, op.name)
	op.run.operations--
	if op.run.operations == 0 {
		if s.runs[op.run.key] == op.run {
			delete(s.runs, op.run.key) // nobody may join a run that is being cancelled
		}
		op.run.cancel(fmt.Errorf("%w: its client is gone", ErrCancelled))
	}
}

// Load is how busy a Scheduler is.
type Load struct{ Running, Queued, Operations int }

// Load counts the runs.
func (s *Scheduler) Load() Load {
	running, queued := s.slots.load()
	s.mu.Lock()
	defer s.mu.Unlock()
	return Load{Running: running, Queued: queued, Operations: len(s.operations)}
}

// Close takes no more requests and waits for the runs in flight. When ctx ends
// they are cancelled, and Close waits for that too.
func (s *Scheduler) Close(ctx context.Context) error {
	s.mu.Lock()
	s.draining = true
	s.mu.Unlock()
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
