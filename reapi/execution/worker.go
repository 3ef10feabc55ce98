package execution

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/tree"
	"github.com/hearth-build/hearth/reapi/execution/actionpb"
	"github.com/hearth-build/hearth/reapi/execution/persistent"
	"github.com/hearth-build/hearth/runners"
)

// work is what an action asks of a persistent worker.
type work struct {
	worker   runners.WorkerCommand
	protocol persistent.Protocol
	request  persistent.Request
}

const (
	// maxWorkerFailures in a row, and a runner has no workers any more: its commands
	// are run as they are.
	maxWorkerFailures = 2
	// cancelPatience is how long a worker may take to give an action up.
	cancelPatience = 10 * time.Second
	// shownLog is how much of a worker's log is shown to the person at the client.
	shownLog = 2 << 10
)

// execute runs the command: by a persistent worker, if there can be one for it, or
// else as what it is.
func (a *attempt) execute(ctx context.Context) (runners.Result, error) {
	w, err := a.workOf(ctx)
	if err != nil {
		return runners.Result{}, err
	}
	a.task.Enter(a.report, Progress{Step: StepExecution})
	if w != nil {
		res, done, err := a.byWorker(ctx, w)
		if done || err != nil {
			return res, err
		}
	}
	return a.lease.Run(ctx, a.job.command, a.printed.stdout, a.printed.stderr)
}

// workOf returns what the action asks of a worker, or nil if it can have none.
func (a *attempt) workOf(ctx context.Context) (*work, error) {
	wanted := a.job.platform.Worker
	start, flagFiles, ok := persistent.Split(a.job.command.Args)
	if !wanted.On() || !ok || !a.lease.Lends() || a.bench().failures >= maxWorkerFailures {
		return nil, nil
	}
	w := &work{protocol: persistent.Delimited{}}
	if wanted.JSON {
		w.protocol = persistent.Lines{}
	}
	var err error
	w.request.Arguments, err = persistent.Arguments(flagFiles, func(name string) ([]byte, error) { return a.input(ctx, name) })
	switch {
	case errors.Is(err, errNoInput), errors.Is(err, persistent.ErrFlagFiles):
		return nil, nil // the command itself may know what to do
	case err != nil:
		return nil, fmt.Errorf("read the flag files for the worker: %w", err)
	}
	w.worker.Command = a.job.command
	w.worker.Args = start
	w.request.Inputs, w.worker.Identity, err = inputsOf(a.job.inputs, a.job.outputs.WorkingDirectory())
	return w, err
}

// errNoInput: a name is not that of an input file.
var errNoInput = errors.New("no input of that name")

// input reads an input file by its name from the working directory.
func (a *attempt) input(ctx context.Context, name string) ([]byte, error) {
	d, ok := a.job.inputs.File(path.Join(a.job.outputs.WorkingDirectory(), name))
	if !ok || path.IsAbs(name) {
		return nil, errNoInput
	}
	const most = 64 << 20
	if d.Size() > most {
		return nil, persistent.ErrFlagFiles
	}
	data, err := cas.ReadAll(ctx, a.task.Store(), d, most)
	return data, missing(d, err)
}

// inputsOf lists the input files for a worker, and digests those that are marked as
// parts of it: with others it is another one.
func inputsOf(g *tree.Graph, workingDirectory string) (inputs []persistent.Input, identity []byte, err error) {
	tools, marked := sha256.New(), false
	err = g.EachFile(func(f tree.InputFile) error {
		name, err := filepath.Rel("/"+workingDirectory, "/"+f.Path)
		if err != nil {
			return err
		}
		inputs = append(inputs, persistent.Input{Path: name, Digest: f.Digest.Hash()})
		if f.Tool {
			marked = true
			fmt.Fprintf(tools, "%q %v\n", f.Path, f.Digest)
		}
		return nil
	})
	if marked {
		identity = tools.Sum(nil)
	}
	return inputs, identity, err
}

// byWorker has the runner's worker do it. One that fails is replaced, once; if that
// fails too, done is false, and everything is as it was before.
func (a *attempt) byWorker(ctx context.Context, w *work) (res runners.Result, done bool, err error) {
	start, b := time.Now(), a.bench()
	var failures []string
	for range maxWorkerFailures {
		res, err = a.ask(ctx, w)
		var gone *runners.WorkerError
		switch {
		case !errors.As(err, &gone):
			b.failures = 0
			if err == nil && len(failures) > 0 {
				a.note = fmt.Sprintf("The persistent worker failed and was started again: %s.", failures[0])
			}
			return res, true, err
		case res.Memory.Kills > 0: // which says more than that it ended
			return res, true, nil
		}
		b.failures++
		failures = append(failures, gone.Error())
		if err := a.restage(ctx); err != nil {
			return res, false, err
		}
		if timeout := a.job.command.Timeout; timeout > 0 {
			w.worker.Timeout = max(timeout-time.Since(start), time.Millisecond)
		}
	}
	a.worker = actionpb.Runner_WORKER_UNSPECIFIED
	a.note = fmt.Sprintf("The persistent worker failed %d times, so that the command was run without it: %s.%s",
		len(failures), strings.Join(failures, "; "), shownTail(&b.log))
	return res, false, nil
}

func shownTail(log *tail) string {
	text := strings.TrimSpace(strings.ToValidUTF8(string(log.last(shownLog)), "?"))
	if text == "" {
		return " It printed nothing to stderr."
	}
	return " The end of its log:\n" + text + "\n"
}

// ask has the worker do it, if it can.
func (a *attempt) ask(ctx context.Context, w *work) (runners.Result, error) {
	working, cancels := ctx, a.job.platform.Worker.Cancels
	if cancels {
		var stop context.CancelCauseFunc
		working, stop = context.WithCancelCause(context.WithoutCancel(ctx))
		defer stop(nil)
		defer afterEnd(ctx, cancelPatience, stop)()
	}
	var answer persistent.Answer
	res, err := a.lease.Work(working, w.worker, &a.bench().log, func(worker runners.Worker) (err error) {
		a.worker = actionpb.Runner_KEPT
		if worker.Fresh {
			a.worker = actionpb.Runner_STARTED
		}
		answer, err = persistent.Ask(ctx, w.protocol, worker, &w.request, cancels)
		return err
	})
	switch {
	case ctx.Err() != nil && err == nil: // the worker has given it up, or was about to answer
		return res, context.Cause(ctx)
	case err != nil || res.TimedOut:
		return res, err
	case answer.Cancelled:
		return res, &runners.WorkerError{Err: fmt.Errorf("%w: it says that the action was cancelled", persistent.ErrAnswer)}
	}
	res.ExitCode = answer.ExitCode
	_, err = a.printed.stderr.Write(answer.Output)
	return res, err
}

// afterEnd calls stop a while after ctx has ended, unless the returned function is
// called before.
func afterEnd(ctx context.Context, patience time.Duration, stop context.CancelCauseFunc) func() {
	timers := make(chan *time.Timer, 1)
	unwatch := context.AfterFunc(ctx, func() {
		timers <- time.AfterFunc(patience, func() { stop(context.Cause(ctx)) })
	})
	return func() {
		if !unwatch() {
			(<-timers).Stop()
		}
	}
}
