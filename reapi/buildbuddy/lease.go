package buildbuddy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/hearth-build/hearth/reapi/buildbuddy/buildbuddypb"
	"github.com/hearth-build/hearth/reapi/cluster"
)

// lease is the right to run a task. It is used by one goroutine.
type lease struct {
	worker *Worker
	id     string // the task's
	// ctx ends when the lease is lost.
	ctx            context.Context //nolint:containedctx // the lifetime of what was leased.
	lose           context.CancelCauseFunc
	leaseID, token string
	serialized     []byte

	stream  buildbuddypb.Scheduler_LeaseTaskClient // nil: it broke
	hangUp  context.CancelFunc                     // ends the stream
	answers chan answer                            // of the stream, or the one that is being opened

	// asked: an answer is awaited, to what was sent then.
	asked bool
	sent  time.Time
	// expiry is when the lease is over, renewal when to ask for more time, or again.
	expiry, renewal time.Time
	timer           *time.Timer // for the earlier of the two
	failures        cluster.Backoff
}

// answer is what was received, and on which stream.
type answer struct {
	stream buildbuddypb.Scheduler_LeaseTaskClient
	resp   *buildbuddypb.LeaseTaskResponse
	err    error
}

// callTimeout is how long the app may take to answer where a lease does not say.
const callTimeout = 20 * time.Second

// Why there is no lease, or none any more.
var (
	errTaken   = errors.New("the task is another worker's, or nobody's any more")
	errExpired = errors.New("the lease was not renewed in time")
)

// lease leases a task, whose owner ctx names.
func (w *Worker) lease(ctx context.Context, id string) (*lease, error) {
	l := &lease{worker: w, id: id, timer: time.NewTimer(callTimeout)}
	l.ctx, l.lose = context.WithCancelCause(ctx)
	l.connect()
	select {
	case a := <-l.answers:
		if err := l.granted(a); err != nil {
			l.end()
			return nil, err
		}
		l.serialized = a.resp.GetSerializedTask()
		return l, nil
	case <-l.timer.C:
		l.end()
		return nil, fmt.Errorf("the app did not answer for %v", callTimeout)
	}
}

// end lets go of the lease.
func (l *lease) end() {
	l.hangUp()
	l.timer.Stop()
	l.lose(nil)
}

// request is what each message says.
func (l *lease) request() *buildbuddypb.LeaseTaskRequest {
	return &buildbuddypb.LeaseTaskRequest{
		TaskId: l.id, ExecutorId: l.worker.opts.Node.ID, ExecutorHostname: l.worker.opts.Node.Hostname,
		SupportsReconnect: true, ReconnectToken: l.token,
	}
}

// connect opens a stream and asks for the lease, or for that which there was.
func (l *lease) connect() {
	ctx, cancel := context.WithCancel(l.ctx)
	answers, first := make(chan answer), l.request()
	l.stream, l.hangUp, l.answers = nil, cancel, answers
	l.asked, l.sent = true, time.Now()
	go l.worker.converse(ctx, first, answers) // ends with cancel
}

// converse opens a stream, sends the first message, and passes on all that is received
// until there is an error.
func (w *Worker) converse(ctx context.Context, first *buildbuddypb.LeaseTaskRequest, answers chan<- answer) {
	pass := func(a answer) (more bool) {
		select {
		case answers <- a:
			return a.err == nil
		case <-ctx.Done():
			return false
		}
	}
	stream, err := w.client.LeaseTask(ctx)
	if err != nil {
		pass(answer{err: err})
		return
	}
	_ = stream.Send(first) // if it fails, to receive fails with the reason
	for {
		resp, err := stream.Recv()
		if !pass(answer{stream, resp, err}) {
			return
		}
	}
}

// granted notes what an answer says of the lease.
func (l *lease) granted(a answer) error {
	if a.err != nil {
		if status.Code(a.err) == codes.NotFound {
			return fmt.Errorf("%w: %v", errTaken, a.err)
		}
		return a.err
	}
	duration := time.Duration(a.resp.GetLeaseDurationSeconds()) * time.Second
	if duration <= 0 {
		return fmt.Errorf("the app leased the task for %v", duration)
	}
	l.asked, l.stream = false, a.stream
	l.leaseID = cmp.Or(a.resp.GetLeaseId(), l.leaseID)
	if a.resp.GetReconnectToken() != "" {
		l.token = a.resp.GetReconnectToken()
	} else if a.resp.GetSupportsReconnect() {
		l.token = l.leaseID
	}
	// The app counts from later on.
	l.expiry, l.renewal = l.sent.Add(duration), l.sent.Add(duration/2)
	l.schedule()
	return nil
}

// schedule sets the timer.
func (l *lease) schedule() {
	next := l.expiry
	if l.renewal.Before(next) {
		next = l.renewal
	}
	l.timer.Reset(time.Until(next))
}

// hear takes an answer. If the stream broke, a lease that can be taken up on another is.
func (l *lease) hear(a answer) {
	wasBroken := l.stream == nil
	err := l.granted(a)
	if err == nil {
		if wasBroken {
			l.failures.Reset()
		}
		return
	}
	l.hangUp()
	l.stream, l.answers = nil, nil
	if errors.Is(err, errTaken) || l.token == "" {
		l.lose(err)
		return
	}
	l.worker.opts.Logger.Debug("a lease is taken up again", "task", l.id, "error", err)
	l.asked = false
	l.failures.First()
	l.renewal = time.Now().Add(l.failures.Pause())
	l.schedule()
}

// tick does what it is time for.
func (l *lease) tick() {
	switch now := time.Now(); {
	case l.ctx.Err() != nil:
		return
	case !now.Before(l.expiry):
		l.lose(errExpired)
		return
	case l.asked || now.Before(l.renewal):
	case l.stream == nil:
		l.connect()
	default:
		l.asked, l.sent = true, now
		_ = l.stream.Send(l.request()) // if it fails, to receive fails with the reason
	}
	l.renewal = l.expiry // until there is an answer
	l.schedule()
}

// close ends the lease, with what became of the task, unless it is over before the app
// has heard it.
func (l *lease) close(end *buildbuddypb.LeaseTaskRequest) error {
	deadline := time.NewTimer(callTimeout)
	defer deadline.Stop()
	for said := false; ; {
		if !said && !l.asked && l.stream != nil {
			message := proto.Clone(end).(*buildbuddypb.LeaseTaskRequest)
			message.TaskId, message.ExecutorId, message.ExecutorHostname = l.id, l.worker.opts.Node.ID, l.worker.opts.Node.Hostname
			said, l.asked = true, true
			_ = l.stream.Send(message) // if it fails, to receive fails with the reason
			_ = l.stream.CloseSend()   // likewise
		}
		select {
		case a := <-l.answers:
			switch {
			case a.resp.GetClosedCleanly():
				return nil
			case said && a.err == nil:
				return errors.New("the app still believes that this worker has the task")
			case said && errors.Is(a.err, io.EOF):
				return errors.New("the app ended the call without an answer")
			case a.err != nil:
				said = false
			}
			l.hear(a)
		case <-l.timer.C:
			l.tick()
		case <-deadline.C:
			return fmt.Errorf("it did not answer for %v", callTimeout)
		case <-l.ctx.Done():
			return context.Cause(l.ctx)
		}
	}
}
