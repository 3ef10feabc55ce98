package execserver

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/hearth-build/hearth/execserver/execpb"
)

// worker is a command that goes on running from one call to the next. While no call
// lends it, all its processes are stopped.
type worker struct {
	run
	is    string // what it was started as
	pipes [2]pipe
}

// identityOf is what tells workers apart.
func identityOf(req *execpb.WorkRequest) (string, error) {
	same := proto.CloneOf(req)
	same.Start.TimeoutNanos, same.Start.GraceNanos = 0, 0
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(same)
	return string(data), err
}

// Work implements execpb.ExecServerServer.
func (s *server) Work(req *execpb.WorkRequest, stream grpc.ServerStreamingServer[execpb.RunEvent]) error {
	ctx := stream.Context()
	if err := s.take(ctx); err != nil {
		return err
	}
	defer func() {
		if s.worker == nil {
			s.used <- struct{}{}
			return
		}
		s.slot <- struct{}{} // what is in the scratch directories is the worker's
	}()
	if s.broken != nil {
		return refuse(stream, notStarted(execpb.NotStarted_FAULT, "%v", s.broken))
	}
	cmd, invalid := commandOf(req.GetStart())
	if invalid != nil {
		return refuse(stream, invalid)
	}
	err := s.work(ctx, &cmd, req, stream)
	if ctx.Err() != nil {
		return status.FromContextError(ctx.Err()).Err()
	}
	if err != nil {
		s.Log.Printf("worker %q: %v", cmd.Args, err)
		return status.Error(codes.Internal, err.Error())
	}
	return nil
}

// work lends the worker that is asked for. Afterwards there is one only if it is to
// be kept.
func (s *server) work(ctx context.Context, cmd *Command, req *execpb.WorkRequest, stream eventStream) error {
	is, err := identityOf(req)
	if err != nil {
		return err
	}
	if s.worker != nil && (s.worker.is != is || s.worker.isOver()) {
		if err := s.dismiss(); err != nil {
			return err
		}
	}
	s.byRoot = s.byRoot || cmd.UID == 0
	s.sender.stream = stream
	defer func() { s.sender.stream = nil }()
	unwatch := context.AfterFunc(ctx, s.wake.wake)
	defer unwatch()
	fresh := s.worker == nil
	if fresh {
		failure, err := s.hire(ctx, cmd, is)
		if failure != nil {
			err = errors.Join(err, refuse(stream, failure))
		}
		if failure != nil || err != nil {
			return err
		}
	}
	w := s.worker
	w.lending = newLending(s.wake.wake)
	s.lent.Store(w.lending)
	defer func() {
		s.lent.Store(nil)
		close(w.lending.over)
	}()
	if err := stream.Send(&execpb.RunEvent{Event: &execpb.RunEvent_Lent{Lent: &execpb.Lent{Fresh: fresh}}}); err != nil {
		return errors.Join(err, s.dismiss())
	}
	return s.lend(ctx, cmd, stream)
}

// hire starts a worker.
func (s *server) hire(ctx context.Context, cmd *Command, is string) (_ *execpb.NotStarted, err error) {
	w := &worker{is: is, pipes: newPipes()}
	w.run = run{reaper: reaper{patience: s.KillPatience}, pipes: &w.pipes, sender: &s.sender, wake: s.wake, score: s.score}
	var read int
	if w.stdin, read, err = newFeed(); err != nil {
		return nil, err
	}
	failure, err := w.begin(ctx, cmd, read)
	err = errors.Join(err, unix.Close(read))
	if w.main != 0 {
		s.worker = w
		if err != nil {
			err = errors.Join(err, s.dismiss())
		}
		return failure, err
	}
	return failure, errors.Join(err, w.close())
}

// lend serves a call with the worker that there is.
func (s *server) lend(ctx context.Context, cmd *Command, stream eventStream) error {
	w := s.worker
	w.start = time.Now()
	w.ladder = newLadder(cmd, w.start)
	err := killAll(syscall.SIGCONT)
	if err == nil {
		err = w.watch(ctx)
	}
	keep := err == nil && w.lending.keep && !w.ended && !w.timedOut && ctx.Err() == nil
	if keep {
		err = w.halt()
	}
	err = errors.Join(err, s.sender.stop())
	if keep && err == nil && !w.ended {
		if s.byRoot { // who may have changed the server meanwhile
			if broken := errors.Join(s.traits.check(), s.private.check()); broken != nil {
				return errors.Join(broken, s.dismiss())
			}
		}
		return stream.Send(&execpb.RunEvent{Event: &execpb.RunEvent_Kept{Kept: &execpb.Kept{DurationNanos: int64(w.took)}}})
	}
	s.worker = nil
	if left := w.extinguish(); left != nil {
		s.broken = fmt.Errorf("a worker could not be ended: %w", left)
		err = errors.Join(err, s.broken)
	}
	for i := range w.pipes {
		if err == nil {
			err = w.pipes[i].drain(stream)
		}
	}
	if err == nil {
		err = stream.Send(w.exited())
	}
	return errors.Join(err, w.close())
}

// dismiss ends the worker, if there is one, and removes what it left.
func (s *server) dismiss() error {
	if s.worker == nil {
		return nil
	}
	w := s.worker
	s.worker = nil
	err := w.extinguish()
	err = errors.Join(err, w.close())
	if err == nil {
		err = s.cleanUp()
	}
	s.byRoot = false
	if err != nil && s.broken == nil {
		s.broken = fmt.Errorf("a worker could not be ended: %w", err)
	}
	return err
}

// isOver reports whether the worker has died while nobody looked.
func (w *worker) isOver() bool {
	_, err := w.reap()
	return err != nil || w.ended
}

// unstoppable is how long processes get to stop before they are continued and stopped
// again: one that waits for a child to execute its program cannot stop while that
// child is stopped.
const unstoppable = 50 * time.Millisecond

// halt stops every process and returns when the worker itself has stopped, or ended.
// That the others have is as good as certain: they got the signal at the same time,
// and none can catch it.
func (w *worker) halt() error {
	deadline := time.Now().Add(w.patience)
	var again time.Time
	for pause := minPause; ; pause = min(pause*3/2, maxPause) {
		now := time.Now()
		if now.After(deadline) {
			return fmt.Errorf("the worker does not stop within %v", w.patience)
		}
		if now.After(again) {
			if err := errors.Join(killAll(syscall.SIGCONT), killAll(syscall.SIGSTOP)); err != nil {
				return err
			}
			again, pause = now.Add(unstoppable), minPause
		}
		stopped, err := w.stopped()
		if err != nil || stopped {
			return err
		}
		time.Sleep(pause)
	}
}

// stopped reports whether the main process is stopped, or has ended.
func (w *worker) stopped() (bool, error) {
	for {
		var status syscall.WaitStatus
		var usage syscall.Rusage
		pid, err := syscall.Wait4(w.main, &status, syscall.WNOHANG|syscall.WALL|syscall.WUNTRACED, &usage)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case err != nil:
			return false, fmt.Errorf("wait for the worker to stop: %w", err)
		case pid == 0:
			return false, nil
		case status.Stopped():
			return true, nil
		}
		w.bury(pid, status, &usage)
		return true, nil
	}
}
