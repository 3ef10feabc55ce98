package podman

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/containers/podman/v5/libpod/define"
	"github.com/containers/podman/v5/pkg/api/handlers"
	"github.com/containers/podman/v5/pkg/bindings/containers"
	docker "github.com/docker/docker/api/types/container"

	"github.com/hearth-build/hearth/execserver/execpb"
	"github.com/hearth-build/hearth/runners"
)

// classicInstance runs commands in the way that hearth exists to improve on:
// unpause, podman exec, pause, for each command. Between commands it is always
// paused, so that the pool's own freezing does nothing.
type classicInstance struct{ *instance }

var _ runners.Instance = (*classicInstance)(nil)

// Freeze implements runners.Freezes.
func (c *classicInstance) Freeze(context.Context) error { return nil }

// Thaw implements runners.Freezes.
func (c *classicInstance) Thaw(context.Context) error { return nil }

// Remove implements runners.Instance. podman leaves the processes that watched
// its execs.
func (c *classicInstance) Remove(ctx context.Context) error {
	if err := c.instance.Remove(ctx); err != nil {
		return err
	}
	ctx, cancel := lingering(ctx, mutationPatience)
	defer cancel()
	return c.b.endConmons(ctx, c.id)
}

func (c *classicInstance) pause(ctx context.Context) error {
	return c.b.call(ctx, "pause container "+c.spec.ID, func(ctx context.Context) error {
		return containers.Pause(ctx, c.id, nil)
	})
}

func (c *classicInstance) unpause(ctx context.Context) error {
	return c.b.call(ctx, "unpause container "+c.spec.ID, func(ctx context.Context) error {
		return containers.Unpause(ctx, c.id, nil)
	})
}

// Run implements runners.Runs. When a command does not start, podman tells why
// in words alone; its exit codes 126 and 127 are passed on as the command's.
func (c *classicInstance) Run(ctx context.Context, cmd runners.Command, stdout, stderr io.Writer) (runners.Result, error) {
	if err := c.unpause(ctx); err != nil {
		return runners.Result{}, err
	}
	result, err := c.measured(ctx, func() (runners.Result, error) { return c.exec(ctx, cmd, stdout, stderr) })
	var notStarted *runners.StartError
	if err != nil && !errors.As(err, &notStarted) {
		return result, err
	}
	return result, errors.Join(err, c.pause(ctx))
}

func (c *classicInstance) exec(ctx context.Context, cmd runners.Command, stdout, stderr io.Writer) (runners.Result, error) {
	session, err := c.createExec(ctx, cmd)
	if err != nil {
		return runners.Result{}, err
	}
	conn, err := c.b.service.connect(ctx)
	if err != nil {
		return runners.Result{}, err
	}
	w := newWatchdog(c.instance, cmd)
	w.begin(ctx)
	startErr := conn.attach(ctx, session, stdout, stderr)
	timedOut, err := w.end()
	took := time.Since(w.started)
	if ctx.Err() != nil {
		return runners.Result{}, fmt.Errorf("podman exec in container %s: %w", c.spec.ID, context.Cause(ctx))
	}
	if startErr != nil && !timedOut {
		return runners.Result{}, startErr
	}
	left, killErr := c.killOthers()
	if err := errors.Join(err, killErr); err != nil {
		return runners.Result{}, err
	}
	code, err := c.exitCode(ctx, session)
	return runners.Result{ExitCode: code, TimedOut: timedOut, Duration: took, Killed: left}, err
}

func (c *classicInstance) createExec(ctx context.Context, cmd runners.Command) (session string, err error) {
	if len(cmd.Args) == 0 || cmd.Args[0] == "" {
		return "", &runners.StartError{Reason: execpb.NotStarted_INVALID, Message: "there is no program to run: the first argument is empty"}
	}
	config := &handlers.ExecCreateConfig{ExecOptions: docker.ExecOptions{
		User:         fmt.Sprintf("%d:%d", cmd.UID, cmd.GID),
		AttachStdout: true, AttachStderr: true,
		Env: cmd.Env, Cmd: cmd.Args, WorkingDir: cmd.Dir,
	}}
	err = c.b.call(ctx, "podman exec in container "+c.spec.ID, func(ctx context.Context) error {
		session, err = containers.ExecCreate(ctx, c.id, config)
		return err
	})
	return session, err
}

func (c *classicInstance) exitCode(ctx context.Context, session string) (int, error) {
	var inspected *define.InspectExecSession
	err := c.b.call(ctx, "result of podman exec", func(ctx context.Context) (err error) {
		inspected, err = containers.ExecInspect(ctx, session, nil)
		return err
	})
	if err != nil {
		return 0, err
	}
	if inspected.Running {
		return 0, fmt.Errorf("%w: podman exec is over, and podman says that its command still runs", runners.ErrLost)
	}
	return inspected.ExitCode, nil
}
