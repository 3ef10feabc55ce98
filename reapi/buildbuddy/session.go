package buildbuddy

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/hearth-build/hearth/reapi/buildbuddy/buildbuddypb"
	"github.com/hearth-build/hearth/reapi/execution"
	"github.com/hearth-build/hearth/runners"
)

const (
	// checkIn is how often the app is told that this machine is still there.
	checkIn = 5 * time.Second
	// askAfter is how long a machine has little to do before it asks for more.
	askAfter = 5 * time.Second
	// littleToDo is the busy share of a machine that does.
	littleToDo = 0.4
	// leaveTimeout is how long the app may take to notice that this machine leaves.
	leaveTimeout = 5 * time.Second
)

// Why tasks that were offered are not leased.
var (
	errLeaving   = fmt.Errorf("%w: it takes no more tasks", execution.ErrDraining)
	errWithdrawn = errors.New("the app has taken the offer back")
)

// session is one registration, as long as its stream lasts.
type session struct {
	worker   *Worker
	handBack <-chan struct{}
	stream   buildbuddypb.Scheduler_RegisterAndStreamWorkClient
	received chan *buildbuddypb.RegisterAndStreamWorkResponse
	broken   chan error // has one when nothing is received any more
	ask      *time.Timer
}

// session registers, and takes offers until ctx ends, the stream breaks, or this
// machine is not ready any more. It reports whether the app took the registration.
func (w *Worker) session(ctx context.Context, handBack <-chan struct{}) (registered bool, err error) {
	if err := w.opts.Ready(ctx); err != nil {
		return false, notReady(err)
	}
	callCtx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	// A stream that nobody reads at the other end must not keep this machine.
	defer context.AfterFunc(ctx, func() {
		time.AfterFunc(leaveTimeout, func() { cancel(errLeaving) })
	})()
	stream, err := w.client.RegisterAndStreamWork(callCtx)
	if err != nil {
		return false, fmt.Errorf("register with the app: %w", err)
	}
	s := &session{
		worker: w, handBack: handBack, stream: stream,
		received: make(chan *buildbuddypb.RegisterAndStreamWorkResponse), broken: make(chan error, 1),
		ask: time.NewTimer(askAfter),
	}
	defer s.ask.Stop()
	go s.receive(callCtx) // ends with cancel
	return s.run(ctx)
}

func notReady(err error) error {
	return fmt.Errorf("this machine is not ready to run actions: %w", err)
}

func (s *session) receive(ctx context.Context) {
	for {
		message, err := s.stream.Recv()
		if err != nil {
			s.broken <- err
			return
		}
		select {
		case s.received <- message:
		case <-ctx.Done():
			s.broken <- context.Cause(ctx)
			return
		}
	}
}

func (s *session) run(ctx context.Context) (registered bool, err error) {
	tick := time.NewTicker(checkIn)
	defer tick.Stop()
	if err := s.register(); err != nil {
		return false, err
	}
	for {
		select {
		case <-ctx.Done():
			return true, s.leave()
		case err := <-s.broken:
			return registered, fmt.Errorf("the registration with the app ended: %w", err)
		case message := <-s.received:
			registered = true
			err = s.handle(ctx, message)
		case <-tick.C:
			registered = true // or it would have ended
			if err = s.worker.opts.Ready(ctx); err != nil {
				return registered, errors.Join(notReady(err), s.leave())
			}
			err = s.register()
		case <-s.ask.C:
			err = s.askForMore()
		}
		if err != nil {
			return registered, err
		}
	}
}

// send fails with the reason why the stream broke, if it did.
func (s *session) send(message *buildbuddypb.RegisterAndStreamWorkRequest) error {
	if s.stream.Send(message) == nil {
		return nil
	}
	for {
		select {
		case <-s.received: // an offer that nobody takes up
		case err := <-s.broken:
			return fmt.Errorf("tell the app: %w", err)
		}
	}
}

func (s *session) register() error {
	w := s.worker
	node := w.opts.Node
	told := &buildbuddypb.ExecutionNode{
		Host:                          node.Hostname,
		Port:                          1,
		AssignableMemoryBytes:         node.Resources.Memory,
		AssignableMilliCpu:            node.Resources.MilliCPU,
		OsFamily:                      "linux",
		Arch:                          node.Arch,
		Pool:                          node.Pool,
		Version:                       node.Version,
		ExecutorId:                    node.ID,
		ExecutorHostId:                node.HostID,
		SupportedIsolationTypes:       []string{"podman"},
		CurrentQueueLength:            int32(w.offered()),
		ActiveActionCount:             int32(w.leased.Load()),
		SupportsProactiveCancellation: true,
	}
	for name, amount := range node.Resources.Custom {
		told.AssignableCustomResources = append(told.AssignableCustomResources, &buildbuddypb.CustomResource{Name: name, Value: float32(amount) / 1000})
	}
	return s.send(&buildbuddypb.RegisterAndStreamWorkRequest{RegisterExecutorRequest: &buildbuddypb.RegisterExecutorRequest{Node: told}})
}

// askForMore asks if there is little to do.
func (s *session) askForMore() error {
	s.ask.Reset(askAfter)
	w := s.worker
	if w.offered() > 0 || w.opts.Actions.Scheduler.Load().Busy >= littleToDo {
		return nil
	}
	return s.send(&buildbuddypb.RegisterAndStreamWorkRequest{AskForMoreWorkRequest: &buildbuddypb.AskForMoreWorkRequest{}})
}

func (s *session) handle(ctx context.Context, message *buildbuddypb.RegisterAndStreamWorkResponse) error {
	switch {
	case message.GetEnqueueTaskReservationRequest() != nil:
		return s.offer(ctx, message.GetEnqueueTaskReservationRequest())
	case message.GetCancelTaskReservationRequest() != nil:
		s.worker.decline(message.GetCancelTaskReservationRequest().GetTaskId(), errWithdrawn)
	case message.GetAskForMoreWorkResponse() != nil:
		delay, err := durationOf(message.GetAskForMoreWorkResponse().GetDelay())
		if err != nil {
			return fmt.Errorf("the app's answer to whether there is more to do: %w", err)
		}
		s.ask.Reset(max(delay, time.Second))
	default: // of a newer app
		s.worker.opts.Logger.Debug("the app said something that this worker does not know")
	}
	return nil
}

// offer makes a task wait until there is room for it.
func (s *session) offer(ctx context.Context, o *buildbuddypb.EnqueueTaskReservationRequest) error {
	w := s.worker
	delay, err := durationOf(o.GetDelay())
	if err != nil || o.GetTaskId() == "" {
		return fmt.Errorf("the app offered a task in a way that this worker does not understand: ID %q, delay: %v", o.GetTaskId(), err)
	}
	s.ask.Reset(askAfter)
	if accepted, fresh := w.accept(ctx, o.GetTaskId()); fresh {
		t := &task{worker: w, told: o, delay: delay, draining: ctx.Done(), handBack: s.handBack}
		w.tasks.Go(func() { t.take(accepted) })
	}
	return s.send(&buildbuddypb.RegisterAndStreamWorkRequest{
		EnqueueTaskReservationResponse: &buildbuddypb.EnqueueTaskReservationResponse{TaskId: o.GetTaskId()},
	})
}

// leave says which tasks others should be offered, and waits until the app has heard it.
func (s *session) leave() error {
	err := s.send(&buildbuddypb.RegisterAndStreamWorkRequest{
		ShuttingDownRequest: &buildbuddypb.ShuttingDownRequest{TaskId: s.worker.declineAll(errLeaving)},
	})
	if err != nil {
		return err
	}
	if err := s.stream.CloseSend(); err != nil {
		return err
	}
	timer := time.NewTimer(leaveTimeout)
	defer timer.Stop()
	for {
		select {
		case <-s.received: // too late
		case <-s.broken:
			return nil
		case <-timer.C:
			return nil
		}
	}
}

// durationOf reads a google.protobuf.Duration; of nothing it is 0.
func durationOf(message []byte) (time.Duration, error) {
	d := &durationpb.Duration{}
	if err := proto.Unmarshal(message, d); err != nil {
		return 0, err
	}
	return d.AsDuration(), d.CheckValid()
}

// estimatesOf is what a task needs, by the app.
func estimatesOf(size *buildbuddypb.TaskSize) runners.Estimates {
	e := runners.Estimates{MilliCPU: max(0, size.GetEstimatedMilliCpu()), Memory: max(0, size.GetEstimatedMemoryBytes())}
	for _, r := range size.GetCustomResources() {
		if e.Custom == nil {
			e.Custom = map[string]int64{}
		}
		e.Custom[strings.ToLower(r.GetName())] = int64(math.Ceil(float64(r.GetValue()) * 1000))
	}
	return e
}
