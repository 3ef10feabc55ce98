package execserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/hearth-build/hearth/execserver/execpb"
)

// Worker is a command that goes on running from one call to the next, while a call
// has it.
type Worker struct {
	// Reader reads what it prints to stdout. io.EOF: it has ended.
	io.Reader
	// Writer writes to its stdin, and may be used while the Reader waits.
	io.Writer
	// Fresh: it was started for this call.
	Fresh bool
}

// WorkerError says that a worker is gone, and what it was lent for is not done. The
// container is as after any command.
type WorkerError struct {
	// Ended says how it ended, if it did so by itself.
	Ended *Result
	// Err is what was wrong with it.
	Err error
}

// Error implements error.
func (e *WorkerError) Error() string {
	switch {
	case e.Ended == nil:
		return e.Err.Error()
	case e.Ended.Signal != 0:
		return fmt.Sprintf("it was ended by signal %d (%v)", int(e.Ended.Signal), e.Ended.Signal)
	default:
		return fmt.Sprintf("it ended with exit code %d", e.Ended.ExitCode)
	}
}

// Unwrap returns what was wrong.
func (e *WorkerError) Unwrap() error { return e.Err }

// WorkerCommand is what a worker is started as. The times are those of a call.
type WorkerCommand struct {
	Command
	// Identity is whatever else tells workers apart.
	Identity []byte
}

// tellBytes bounds one Tell.
const tellBytes = 1 << 20

// Work lends the worker that cmd is, if it still runs from an earlier call, or else
// starts it, for the time of talk. What it prints to stderr goes to stderr while talk
// reads. If talk returns nil, the worker is stopped and kept for the next call; else,
// and if ctx ends or the timeout expires, it is killed with all its processes.
// Errors are those of Run, and a *WorkerError if the worker ended or talk failed.
func (c *Client) Work(ctx context.Context, cmd WorkerCommand, stderr io.Writer, talk func(Worker) error) (Result, error) {
	req, err := cmd.request()
	if err != nil {
		return Result{}, err
	}
	if err := c.takeTurn(ctx); err != nil {
		return Result{}, err
	}
	defer c.endTurn()
	calling, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.rpc.Work(calling, &execpb.WorkRequest{Start: req, Identity: cmd.Identity})
	if err != nil {
		return Result{}, c.settle(c.failed(ctx, err))
	}
	call := &workCall{
		stream: stream, stderr: stderr,
		failed: func(err error) error { return c.failed(ctx, err) },
		tell: func(req *execpb.TellRequest) error {
			_, err := c.rpc.Tell(calling, req)
			return err
		},
	}
	err = call.run(talk)
	if call.last != nil && call.broken == nil {
		return call.result(err)
	}
	cancel() // kills the worker, if it still runs
	outlast(stream)
	switch {
	case call.broken != nil:
		return Result{}, c.settle(call.broken)
	case ctx.Err() != nil:
		return Result{}, c.settle(c.failed(ctx, err))
	}
	return Result{}, c.settle(&WorkerError{Err: err})
}

// workCall is one call of Work. It reads the stdout of the worker.
type workCall struct {
	stream grpc.ServerStreamingClient[execpb.RunEvent]
	stderr io.Writer
	failed func(error) error
	tell   func(*execpb.TellRequest) error

	fresh  bool
	stdout []byte
	last   *execpb.RunEvent // the last event, if it came
	broken error            // why none will come
}

// run returns what talk does, or why the worker could not be lent or kept.
func (w *workCall) run(talk func(Worker) error) error {
	if err := w.next(); err != nil || w.last != nil {
		return err
	}
	if err := talk(Worker{Reader: w, Writer: teller(w.tell), Fresh: w.fresh}); err != nil {
		if !errors.Is(err, errWorkerEnded) {
			return err
		}
		return errors.Join(err, w.drain()) // the last event says how
	}
	if w.last == nil {
		// If it has ended just now, the last event says so.
		_ = w.tell(&execpb.TellRequest{Keep: true})
	}
	return w.drain()
}

// drain takes what is left of the events.
func (w *workCall) drain() error {
	for w.last == nil {
		if err := w.next(); err != nil {
			return err
		}
	}
	return nil
}

// result reads the last event. talked is what talk returned.
func (w *workCall) result(talked error) (Result, error) {
	switch e := w.last.Event.(type) {
	case *execpb.RunEvent_NotStarted:
		return Result{}, &StartError{Reason: e.NotStarted.Reason, Message: e.NotStarted.Message}
	case *execpb.RunEvent_Kept:
		return Result{Duration: time.Duration(e.Kept.DurationNanos)}, nil
	}
	ended := resultOf(w.last.GetExited())
	switch {
	case ended.TimedOut:
		return ended, nil
	case talked == nil: // it ended when all was done
		return Result{Duration: ended.Duration}, nil
	}
	return ended, &WorkerError{Ended: &ended, Err: talked}
}

// Read implements io.Reader.
func (w *workCall) Read(p []byte) (int, error) {
	for len(w.stdout) == 0 {
		if w.last != nil {
			return 0, io.EOF
		}
		if err := w.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, w.stdout)
	w.stdout = w.stdout[n:]
	return n, nil
}

// next takes an event. After an error there is no other one.
func (w *workCall) next() (err error) {
	defer func() { w.broken = err }()
	event, err := w.stream.Recv()
	if err != nil {
		return w.failed(err)
	}
	switch e := event.Event.(type) {
	case *execpb.RunEvent_Lent:
		w.fresh = e.Lent.Fresh
	case *execpb.RunEvent_Stdout:
		w.stdout = append(w.stdout, e.Stdout...)
	case *execpb.RunEvent_Stderr:
		if _, err := w.stderr.Write(e.Stderr); err != nil {
			return fmt.Errorf("pass on what the worker prints: %w", err)
		}
	default:
		w.last = event
		if _, err := w.stream.Recv(); !errors.Is(err, io.EOF) {
			return w.failed(err)
		}
	}
	return nil
}

// errWorkerEnded: the server lends a worker no more, since that has ended.
var errWorkerEnded = errors.New("the worker has ended")

// teller writes to the stdin of a worker.
type teller func(*execpb.TellRequest) error

var _ io.Writer = teller(nil)

// Write implements io.Writer.
func (tell teller) Write(p []byte) (int, error) {
	for n := 0; n < len(p); n += tellBytes {
		err := tell(&execpb.TellRequest{Stdin: p[n:min(n+tellBytes, len(p))]})
		if status.Code(err) == codes.FailedPrecondition {
			return n, errWorkerEnded
		}
		if err != nil {
			return n, fmt.Errorf("write to the worker: %w", plain(err))
		}
	}
	return len(p), nil
}
