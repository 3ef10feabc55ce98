package buildbarn

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/buildbarn/bb-remote-execution/pkg/proto/remoteworker"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/hearth-build/hearth/reapi/cluster"
	"github.com/hearth-build/hearth/reapi/execution"
)

// slot is one of a worker's threads, as the scheduler sees it.
type slot struct {
	worker   *Worker
	id       map[string]string
	log      *slog.Logger
	handBack <-chan struct{}
	// last ends when there is no use in calling the scheduler any more.
	last context.Context //nolint:containedctx // the lifetime of Worker.Run, whose goroutine the slot is.

	job *job // nil: the slot is idle
	// doubt: the scheduler may believe that the slot has an action.
	doubt bool
	// next is when the scheduler wants to hear of the action, rest until when an idle
	// slot asks for none.
	next, rest time.Time
}

// The times of calls. A scheduler believes that a worker is gone when it has been
// silent for a minute.
const (
	// busyCallTimeout is for calls that are answered at once, blockedCallTimeout for
	// those that wait for work, which bb_scheduler lets do so for two minutes.
	busyCallTimeout    = 20 * time.Second
	blockedCallTimeout = 3 * time.Minute
	// The scheduler's clock may not be ours, so that what it says of the next call is
	// taken within these bounds while an action runs.
	minSyncInterval, maxSyncInterval = time.Second, 30 * time.Second
	// idleInterval is the least between calls for work: a scheduler may answer at once
	// that there is none.
	idleInterval = 100 * time.Millisecond
)

// run goes on until ctx has ended and the scheduler knows that the slot is idle.
func (s *slot) run(ctx context.Context) {
	defer s.drop(errLeft)
	var failures cluster.Backoff
	for !s.mayLeave(ctx) {
		err := s.round(ctx)
		switch {
		case err == nil:
			if failures.Reset() {
				s.log.Info("the slot works again")
			}
			continue
		case ctx.Err() != nil && errors.Is(err, context.Cause(ctx)):
			continue // a call that waited for work: it is time to leave
		case failures.First() && ctx.Err() == nil:
			s.log.Warn("the slot takes no action until this is over", "error", err)
		default:
			s.log.Debug("the slot still takes no action", "error", err)
		}
		failures.Wait(s.whileWaiting(ctx))
	}
}

// mayLeave reports whether there is nothing left to tell the scheduler.
func (s *slot) mayLeave(ctx context.Context) bool {
	return ctx.Err() != nil && !s.doubt || s.last.Err() != nil
}

// whileWaiting ends when it is no use to wait before the next call.
func (s *slot) whileWaiting(ctx context.Context) context.Context {
	if ctx.Err() != nil {
		return s.last
	}
	return ctx
}

// round makes one call, when it is time for it.
func (s *slot) round(ctx context.Context) error {
	if s.job == nil && !s.doubt {
		if err := s.worker.opts.Ready(ctx); err != nil {
			return fmt.Errorf("this machine is not ready to run actions: %w", err)
		}
		if !sleepUntil(ctx, s.rest) {
			return nil
		}
	}
	if s.job != nil && !s.job.ended() { // else its end is told again
		s.await(ctx)
	}
	return s.synchronize(ctx)
}

// await returns when there is news of the action, or the scheduler wants to hear of it.
func (s *slot) await(ctx context.Context) {
	timer := time.NewTimer(min(max(time.Until(s.next), minSyncInterval), maxSyncInterval))
	defer timer.Stop()
	draining, handBack := ctx.Done(), s.handBack
	for {
		select {
		case <-s.job.news:
			return
		case <-timer.C:
			return
		case <-draining:
			draining = nil
			if !s.job.begun() {
				s.job.cancel(execution.ErrDraining)
			}
		case <-handBack:
			handBack = nil
			s.job.cancel(execution.ErrDraining)
		}
	}
}

// synchronize tells the scheduler what the slot does, and does what it says.
func (s *slot) synchronize(ctx context.Context) error {
	state, ended := s.state()
	idle := s.prefersIdle(ctx, ended)
	callCtx, cancel := s.callContext(ctx, ended && !idle)
	defer cancel()
	s.doubt = true
	s.rest = time.Now().Add(idleInterval)
	resp, err := s.worker.opts.Queue.Synchronize(callCtx, &remoteworker.SynchronizeRequest{
		WorkerId:           s.id,
		InstanceNamePrefix: s.worker.opts.Actions.opts.Prefix,
		Platform:           s.worker.platform,
		SizeClass:          s.worker.opts.SizeClass,
		CurrentState:       state,
		PreferBeingIdle:    idle,
	})
	if err != nil {
		if cause := context.Cause(callCtx); cause != nil {
			err = fmt.Errorf("%w (%v)", cause, err)
		}
		return fmt.Errorf("ask the scheduler: %w", err)
	}
	if err := resp.GetNextSynchronizationAt().CheckValid(); err != nil {
		return fmt.Errorf("the scheduler's answer: next_synchronization_at: %w", err)
	}
	s.next = resp.GetNextSynchronizationAt().AsTime()
	return s.obey(ctx, resp.GetDesiredState(), ended)
}

// state is what to tell the scheduler, and whether the slot could take an action.
func (s *slot) state() (state *remoteworker.CurrentState, ended bool) {
	if s.job == nil {
		return &remoteworker.CurrentState{WorkerState: &remoteworker.CurrentState_Idle{Idle: &emptypb.Empty{}}}, true
	}
	executing, ended := s.job.state()
	return &remoteworker.CurrentState{WorkerState: &remoteworker.CurrentState_Executing_{Executing: executing}}, ended
}

// prefersIdle reports whether the slot wants no action: it leaves, does not know
// whether it has one, or should look first whether this machine is still all right.
func (s *slot) prefersIdle(ctx context.Context, ended bool) bool {
	switch {
	case ctx.Err() != nil:
		return true
	case s.job == nil:
		return s.doubt
	case ended:
		return s.job.failed() || s.worker.opts.Ready(ctx) != nil
	default:
		return false
	}
}

// callContext bounds a call. One that waits for work ends with ctx, too.
func (s *slot) callContext(ctx context.Context, waits bool) (context.Context, context.CancelFunc) {
	if waits {
		return context.WithTimeoutCause(ctx, blockedCallTimeout, errors.New("it did not answer in time"))
	}
	return context.WithTimeoutCause(s.last, busyCallTimeout, errors.New("it did not answer in time"))
}

// obey makes the slot what the scheduler wants it to be.
func (s *slot) obey(ctx context.Context, desired *remoteworker.DesiredState, ended bool) error {
	switch want := desired.GetWorkerState().(type) {
	case *remoteworker.DesiredState_Executing_:
		s.drop(errSuperseded)
		s.start(want.Executing)
	case *remoteworker.DesiredState_Idle:
		s.drop(errUnwanted)
		s.doubt = false
	case nil:
		if desired != nil {
			return errors.New("the scheduler's answer: it wants a state that this worker does not know")
		}
		if ended { // it has nothing new to do
			s.drop(errUnwanted)
			s.doubt = false
		}
	}
	return nil
}

// Why an action is ended whose outcome nobody will be told.
var (
	errSuperseded = fmt.Errorf("%w: the scheduler wants another one", execution.ErrCancelled)
	errUnwanted   = fmt.Errorf("%w: the scheduler does not want it any more", execution.ErrCancelled)
	errLeft       = fmt.Errorf("%w: the worker left", execution.ErrCancelled)
)

// start begins an action.
func (s *slot) start(assigned *remoteworker.DesiredState_Executing) {
	s.job = startJob(s.worker.opts.Actions, assigned)
	s.worker.busy.Add(1)
}

// drop ends the slot's action, if it has one. Nothing of it goes on any more.
func (s *slot) drop(why error) {
	if s.job == nil {
		return
	}
	s.job.cancel(why)
	<-s.job.done
	s.job = nil
	s.worker.busy.Add(-1)
}

// sleepUntil waits, and reports false if ctx ends before that.
func sleepUntil(ctx context.Context, t time.Time) bool {
	timer := time.NewTimer(time.Until(t))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
