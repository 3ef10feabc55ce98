package runnertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hearth-build/hearth/execserver"
	"github.com/hearth-build/hearth/runners"
)

// The files of a runner beside its work directory.
const (
	socketFile = "exec.sock"
	pidFile    = "pid"
)

// hostInstance is one exec server in a PID namespace.
type hostInstance struct {
	id, dir string
	forget  func(id string)
	log     bytes.Buffer // of the server; to be read once it has exited

	client *execserver.Client
	cmd    *exec.Cmd
	exited chan struct{} // closed when the namespace is gone

	mu     sync.Mutex // serialises Freeze, Thaw and Remove; guards closed
	closed bool       // the client is
}

var (
	_ runners.Instance = (*hostInstance)(nil)
	_ runners.Lends    = (*hostInstance)(nil)
)

func (in *hostInstance) workDir() string { return filepath.Join(in.dir, runners.WorkDirName) }

func (in *hostInstance) start(ctx context.Context, server string) error {
	if err := os.Chmod(in.dir, 0o711); err != nil { // to let all users pass
		return err
	}
	if err := os.Mkdir(in.workDir(), 0o755); err != nil {
		return err
	}
	socket := filepath.Join(in.dir, socketFile)
	// The shell becomes the server; the mount is seen in the namespace alone.
	in.cmd = exec.Command("/bin/sh", "-c", `mount -t proc proc /proc && exec "$@"`, "sh", server, "--socket", socket)
	in.cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID, Unshareflags: syscall.CLONE_NEWNS}
	in.cmd.Stdout, in.cmd.Stderr = &in.log, &in.log
	var err error
	if in.client, err = execserver.Dial(socket); err != nil {
		return err
	}
	if err := in.cmd.Start(); err != nil {
		in.cmd = nil
		return fmt.Errorf("start the exec server: %w", err)
	}
	go in.await()
	if err := recordPID(filepath.Join(in.dir, pidFile), in.cmd.Process.Pid); err != nil {
		return err
	}
	return in.ready(ctx)
}

// await ends when Remove, Sweep or the server itself ends the namespace.
func (in *hostInstance) await() {
	_ = in.cmd.Wait() // it was killed, or its log says why it ended
	close(in.exited)
}

// ready waits for the server, or for its untimely end.
func (in *hostInstance) ready(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case <-in.exited:
			cancel(fmt.Errorf("the exec server ended: %s", strings.TrimSpace(in.log.String())))
		case <-ctx.Done():
		}
	}()
	err := in.client.Ready(ctx)
	cancel(nil)
	<-watched
	return err
}

// Run implements runners.Runs. Nothing limits memory or counts it.
func (in *hostInstance) Run(ctx context.Context, cmd runners.Command, stdout, stderr io.Writer) (runners.Result, error) {
	cmd.Dir = in.onHost(cmd.Dir)
	res, err := in.client.Run(ctx, cmd, stdout, stderr)
	return runners.ResultOf(res), err
}

// Work implements runners.Lends.
func (in *hostInstance) Work(ctx context.Context, cmd runners.WorkerCommand, stderr io.Writer, talk func(runners.Worker) error) (runners.Result, error) {
	cmd.Dir = in.onHost(cmd.Dir)
	res, err := in.client.Work(ctx, cmd, stderr, talk)
	return runners.ResultOf(res), err
}

// onHost is where a directory of the container is.
func (in *hostInstance) onHost(dir string) string {
	if rest, ok := strings.CutPrefix(dir, runners.ContainerWorkDir); ok {
		return in.workDir() + rest
	}
	return dir
}

// CPUTime implements runners.Instance.
func (in *hostInstance) CPUTime(context.Context) (time.Duration, error) {
	return cpuTime(in.cmd.Process.Pid)
}

// Memory implements runners.Weighs: what the server itself has.
func (in *hostInstance) Memory(context.Context) (int64, error) {
	return residentMemory(in.cmd.Process.Pid)
}

// Drift implements runners.Weighs. There is no file system of its own.
func (in *hostInstance) Drift(context.Context) (runners.Drift, error) { return runners.Drift{}, nil }

// Freeze implements runners.Freezes.
func (in *hostInstance) Freeze(ctx context.Context) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	return stopAll(ctx, in.cmd.Process.Pid)
}

// Thaw implements runners.Freezes.
func (in *hostInstance) Thaw(ctx context.Context) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	return continueAll(ctx, in.cmd.Process.Pid)
}

// Remove implements runners.Instance. The end of PID 1 ends its namespace.
func (in *hostInstance) Remove(ctx context.Context) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	var errs []error
	if in.cmd != nil {
		if err := in.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("kill the exec server: %w", err)
		}
		select {
		case <-in.exited:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if in.client != nil && !in.closed {
		in.closed = true
		errs = append(errs, in.client.Close())
	}
	for _, name := range []string{socketFile, pidFile} {
		if err := os.Remove(filepath.Join(in.dir, name)); !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	in.forget(in.id)
	return errors.Join(errs...)
}
