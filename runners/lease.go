package runners

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/hearth-build/hearth/execserver"
)

// Lease is the right to use a runner for one action. It is used by one
// goroutine at a time, and ends with Release or Discard.
type Lease struct {
	pool   *Pool
	r      *runner
	info   LeaseInfo
	ready  bool      // its container is there
	freeze *freezing // to wait for, and to undo, before the runner can be used

	// Guarded by pool.mu.
	ended bool
	doubt string // why the runner must not be used again
}

// LeaseInfo says what runner an action got and why.
type LeaseInfo struct {
	RunnerID string
	// Runs counts the runner's actions, this one included.
	Runs int
	// Warm: it ran an action before.
	Warm bool
	// ColdReason says in words why it is not warm; empty if it is.
	ColdReason string
	// ColdKind is the Cold.Kind of that, and Spare tells that a container was ready all
	// the same.
	ColdKind string
	Spare    bool
	// WokenFrom is what the runner was before: Starting, Idle or Paused.
	WokenFrom State
}

// Info describes the runner.
func (l *Lease) Info() LeaseInfo { return l.info }

// Dir is the host directory that the container has as ContainerWorkDir. The
// user of the lease removes what it puts there.
func (l *Lease) Dir() string { return l.r.workDir() }

// Belongings is what users of the runner's leases keep with it, in memory alone. They
// come and go with it.
func (l *Lease) Belongings() *any { return &l.r.belongings }

// Root is the Root of the runner's container.
func (l *Lease) Root() int { return RootOf(l.r.instance) }

// Image that the container was started from.
func (l *Lease) Image() Image { return l.r.image }

// Run runs a command in the runner, as Instance.Run does. Errors:
//   - *StartError that is no Fault: nothing was run, the runner is all right;
//   - the cause of ctx's end;
//   - what a Write to stdout or stderr returned;
//   - ErrClosed: the pool was shut down and did not wait any longer;
//   - anything else is ErrLost.
//
// After all but the first the runner is not used again, and neither is it after
// a timeout, or after memory ran out.
func (l *Lease) Run(ctx context.Context, cmd Command, stdout, stderr io.Writer) (Result, error) {
	out, errOut := &watched{w: stdout}, &watched{w: stderr}
	res, err := l.r.instance.Run(ctx, cmd, out, errOut)
	return res, l.ran(ctx, res, err, errors.Join(out.err, errOut.err))
}

// Lends tells whether there can be workers in the runner.
func (l *Lease) Lends() bool {
	_, ok := l.r.instance.(Lends)
	return ok
}

// Work lends the runner's worker for the time of talk, as Lends.Work does. Errors are
// those of Run, and a *WorkerError, after which the runner is all right.
func (l *Lease) Work(ctx context.Context, cmd WorkerCommand, stderr io.Writer, talk func(Worker) error) (Result, error) {
	lender, ok := l.r.instance.(Lends)
	if !ok {
		return Result{}, errors.New("there are no workers in runners of this kind")
	}
	log := &watched{w: stderr}
	res, err := lender.Work(ctx, cmd, log, talk)
	var gone *WorkerError
	if errors.As(err, &gone) && !errors.Is(err, execserver.ErrUnsettled) {
		return res, errors.Join(err, l.ran(ctx, res, nil, nil))
	}
	return res, l.ran(ctx, res, err, log.err)
}

// ran judges the runner by how a run in it ended; unkept is what happened to its
// output.
func (l *Lease) ran(ctx context.Context, res Result, err, unkept error) error {
	if err == nil {
		switch {
		case res.TimedOut:
			l.Doubt("its last action timed out")
		case res.Memory.Kills > 0:
			l.Doubt("its last action ran out of memory")
		}
		return nil
	}
	var start *StartError
	if errors.As(err, &start) && !start.Fault() {
		return err
	}
	if unkept != nil && ctx.Err() == nil {
		l.Doubt(fmt.Sprintf("the output of its last action could not be kept: %v", unkept))
		return unkept
	}
	return l.runError(ctx, err)
}

func (l *Lease) runError(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		l.Doubt("its last action was cancelled")
		return fmt.Errorf("%w (%v)", context.Cause(ctx), err)
	case l.pool.cleaning().Err() != nil:
		return fmt.Errorf("%w while an action ran: %v", ErrClosed, err)
	default:
		l.Doubt(fmt.Sprintf("it failed its last action: %v", err))
		return fmt.Errorf("%w: %s: %w", ErrLost, l.r.id, err)
	}
}

// Release ends the lease. The runner is kept if its platform says so and there
// is no doubt about it, else it is removed, which Release does not wait for.
// Only the first of all calls of Release and Discard counts.
func (l *Lease) Release() { l.end("") }

// Discard ends the lease and removes the runner, since there is a doubt about
// it. People read the reason after "it was discarded:".
func (l *Lease) Discard(reason string) {
	if reason == "" {
		reason = "no reason given"
	}
	l.end(reason)
}

// Retire makes the end of the lease that of the runner, about which there is no
// doubt. People read the reason after "it was retired:".
func (l *Lease) Retire(reason string) {
	l.pool.mu.Lock()
	defer l.pool.mu.Unlock()
	l.r.dismissed = reason
}

// Doubt makes the end of the lease remove the runner, whose directory is of use
// until then. Of several reasons the first counts. People read it after "it was
// discarded:".
func (l *Lease) Doubt(reason string) {
	l.pool.mu.Lock()
	defer l.pool.mu.Unlock()
	if l.doubt == "" {
		l.doubt = reason
	}
}

func (l *Lease) end(reason string) {
	p, r := l.pool, l.r
	p.mu.Lock()
	defer p.mu.Unlock()
	if l.ended {
		return
	}
	l.ended = true
	if reason == "" {
		reason = l.doubt
	}
	switch {
	case r.state == Removed: // the pool was closed and did not wait
	case reason != "":
		p.retireLocked(r, ending{discarded, reason})
	case !r.recycle:
		p.retireLocked(r, ending{removed, "recycle-runner is not true"})
	case p.replaceIfSpentLocked(r, time.Now()):
	default:
		p.parkLocked(r)
	}
}

// watched remembers an error of a writer.
type watched struct {
	w   io.Writer
	err error
}

var _ io.Writer = (*watched)(nil)

// Write implements io.Writer.
func (w *watched) Write(b []byte) (int, error) {
	n, err := w.w.Write(b)
	if err != nil {
		w.err = err
	}
	return n, err
}
