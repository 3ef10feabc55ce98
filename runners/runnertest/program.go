package runnertest

import (
	"context"
	"fmt"
	"io"
	"strings"
	"syscall"
	"time"

	"github.com/hearth-build/hearth/execserver/execpb"
	"github.com/hearth-build/hearth/runners"
)

// Process is a command as a Program sees it.
type Process struct {
	runners.Command
	// Dir is the runner's directory on the host, Spec.Dir.
	Dir, RunnerID  string
	Stdout, Stderr io.Writer
}

// Program is what a command of a Fake runs. It must return when ctx ends.
type Program func(ctx context.Context, p Process) (runners.Result, error)

var _ Program = Builtins

// Builtins is a Program that knows true, false, echo and sleep, and timeouts.
func Builtins(ctx context.Context, p Process) (runners.Result, error) {
	if err := ctx.Err(); err != nil {
		return runners.Result{}, context.Cause(ctx)
	}
	switch p.Args[0] {
	case "true":
		return runners.Result{}, nil
	case "false":
		return runners.Result{ExitCode: 1}, nil
	case "echo":
		_, err := fmt.Fprintln(p.Stdout, strings.Join(p.Args[1:], " "))
		return runners.Result{}, err
	case "sleep":
		return sleep(ctx, p)
	default:
		return runners.Result{}, &runners.StartError{
			Reason: execpb.NotStarted_NOT_FOUND, Message: fmt.Sprintf("%q: no such program", p.Args[0]),
		}
	}
}

func sleep(ctx context.Context, p Process) (runners.Result, error) {
	length, err := time.ParseDuration(p.Args[1] + "s")
	if err != nil {
		return runners.Result{ExitCode: 1}, nil //nolint:nilerr // as the real one, which does not understand it either.
	}
	timedOut := p.Timeout > 0 && p.Timeout < length
	if timedOut {
		length = p.Timeout
	}
	timer := time.NewTimer(length)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return runners.Result{}, context.Cause(ctx)
	}
	if timedOut {
		return runners.Result{Signal: syscall.SIGKILL, TimedOut: true, Duration: length}, nil
	}
	return runners.Result{Duration: length}, nil
}
