package podman

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/containers/podman/v5/libpod/define"
	"github.com/containers/podman/v5/pkg/bindings/containers"
	"golang.org/x/sys/unix"

	"github.com/hearth-build/hearth/execserver"
	"github.com/hearth-build/hearth/runners"
	"github.com/hearth-build/hearth/runners/sysmon"
)

const (
	// mutationPatience is how long a call that changes a container may go on
	// after its caller gave up.
	mutationPatience = 20 * time.Second
	// cleanUpTimeout bounds the removal of what a failed Start made.
	cleanUpTimeout = 30 * time.Second
)

// Start implements runners.Backend.
func (b *Backend) Start(ctx context.Context, s runners.Spec) (runners.Instance, error) {
	in, err := b.start(ctx, s)
	if err != nil {
		return nil, err
	}
	if b.opts.ExecMode != PodmanExec {
		return in, nil
	}
	classic := &classicInstance{instance: in}
	if err := classic.pause(ctx); err != nil {
		return nil, in.undo(ctx, err)
	}
	return classic, nil
}

// startAs starts a container whose root is, on the host, of this ID.
func (b *Backend) startAs(ctx context.Context, s runners.Spec, root int) (*instance, error) {
	b.setLive(s.ID, true)
	in := &instance{b: b, spec: s, root: root}
	if err := in.start(ctx); err != nil {
		return nil, in.undo(ctx, err)
	}
	return in, nil
}

// undo removes what a Start made that failed with err.
func (in *instance) undo(ctx context.Context, err error) error {
	cleaning, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTimeout)
	defer cancel()
	if rmErr := in.Remove(cleaning); rmErr != nil {
		in.b.setLive(in.spec.ID, false)
		err = fmt.Errorf("%w (and it is left behind: %w)", err, rmErr)
	}
	return err
}

// start goes as far as it can; Remove undoes any part of it.
func (in *instance) start(ctx context.Context) error {
	ctl := filepath.Join(in.spec.Dir, ctlDir)
	if err := os.Mkdir(ctl, 0o700); err != nil {
		return fmt.Errorf("make the directory of the exec server's socket: %w", err)
	}
	if err := in.makeWorkDir(); err != nil {
		return fmt.Errorf("make the work directory: %w", err)
	}
	if err := in.giveToRoot(ctl, in.workDir()); err != nil {
		return err
	}
	if err := in.create(ctx); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	starting, cancel := lingering(ctx, mutationPatience)
	defer cancel()
	err := in.b.call(starting, "start container "+in.spec.ID, func(ctx context.Context) error {
		return containers.Start(ctx, in.id, nil)
	})
	if err != nil {
		return err
	}
	if err := in.find(ctx); err != nil {
		return err
	}
	if in.client, err = execserver.Dial(filepath.Join(in.spec.Dir, ctlDir, socketFile)); err != nil {
		return err
	}
	if err := in.awaitServer(ctx); err != nil {
		return err
	}
	if err := sysmon.Relax(in.init.pid); err != nil {
		in.b.log.Debug("the exec server's monitor wakes as often as ever", "runner", in.spec.ID, "error", err)
	}
	return nil
}

// makeWorkDir makes the work directory with exactly its mode.
func (in *instance) makeWorkDir() error {
	if err := os.Mkdir(in.workDir(), 0o755); err != nil {
		return err
	}
	return os.Chmod(in.workDir(), 0o755)
}

func (in *instance) workDir() string { return filepath.Join(in.spec.Dir, runners.WorkDirName) }

func (in *instance) create(ctx context.Context) error {
	g := in.b.containerSpec(in.spec)
	if in.spec.Image.Name == runners.HostImage {
		if err := in.b.host.use(g); err != nil {
			return err
		}
	} else {
		g.Image = in.spec.Image.ID
	}
	if in.root != 0 {
		mapTo(g, in.root)
	}
	creating, cancel := lingering(ctx, mutationPatience)
	defer cancel()
	err := in.b.call(creating, "create container "+in.spec.ID, func(ctx context.Context) error {
		created, err := containers.CreateWithSpec(ctx, g, nil)
		in.id = created.ID
		return err
	})
	if noImage(err) {
		return fmt.Errorf("%w: image %s (%s) is not on this host any more: %w", runners.ErrImage, in.spec.Image.Name, in.spec.Image.ID, err)
	}
	return err
}

// find finds the container's first process and cgroup.
func (in *instance) find(ctx context.Context) error {
	state, err := in.inspect(ctx)
	if err != nil {
		return err
	}
	if state.Pid == 0 {
		return in.died(ctx)
	}
	if in.init, err = openPidfd(state.Pid); errors.Is(err, unix.ESRCH) {
		return in.died(ctx)
	}
	if err != nil {
		return err
	}
	if in.cgroup, err = in.b.cgroups.openCgroup(state.Pid, in.id); err != nil {
		level := slog.LevelDebug
		if in.b.partial.CompareAndSwap(false, true) { // all others are the same
			level = slog.LevelWarn
		}
		in.b.log.Log(ctx, level, "not all files of a container's cgroup can be used; the slower ways of podman take their place", "runner", in.spec.ID, "error", err)
	}
	return nil
}

// inspect asks podman for the container's state. Until podman has learned that a
// container ended it reads of its process in /proc, and fails if that is gone.
func (in *instance) inspect(ctx context.Context) (*define.InspectContainerState, error) {
	deadline := time.Now().Add(serviceStopTimeout)
	for {
		state, err := in.inspectOnce(ctx)
		if !noProcess(err) || time.Now().After(deadline) || ctx.Err() != nil {
			return state, err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (in *instance) inspectOnce(ctx context.Context) (*define.InspectContainerState, error) {
	var state *define.InspectContainerState
	err := in.b.call(ctx, "inspect container "+in.spec.ID, func(ctx context.Context) error {
		data, err := containers.Inspect(ctx, in.id, nil)
		if err == nil {
			state = data.State
		}
		return err
	})
	if err == nil && state == nil {
		err = fmt.Errorf("%w: podman says nothing of the state of container %s", runners.ErrLost, in.spec.ID)
	}
	return state, err
}

// awaitServer waits until the exec server answers, or the container ends.
func (in *instance) awaitServer(ctx context.Context) error {
	const look = 200 * time.Millisecond
	for {
		waiting, cancel := context.WithTimeout(ctx, look)
		err := in.client.Ready(waiting)
		// The exec server knows the deadline, too, and may notice it first.
		timedOut := waiting.Err() != nil || errors.Is(err, context.DeadlineExceeded)
		cancel()
		if err == nil || ctx.Err() != nil {
			return err
		}
		ended, pollErr := in.init.ended(ctx, 0)
		if pollErr != nil {
			return pollErr
		}
		if ended {
			return in.died(ctx)
		}
		if !timedOut {
			return err
		}
	}
}

// died tells how the container ended, which podman itself learns a moment later.
func (in *instance) died(ctx context.Context) error {
	deadline := time.Now().Add(serviceStopTimeout)
	for {
		state, err := in.inspect(ctx)
		if err != nil {
			return err
		}
		if state.Running && time.Now().Before(deadline) {
			time.Sleep(10 * time.Millisecond)
			continue
		}
		words := in.lastWords()
		if state.Error != "" {
			words += "; podman: " + state.Error
		}
		return fmt.Errorf("%w: container %s ended at once (%s, exit code %d): %s",
			runners.ErrLost, in.spec.ID, state.Status, state.ExitCode, words)
	}
}

// lastWords is the end of what the exec server printed.
func (in *instance) lastWords() string {
	const most = 2048
	f, err := os.Open(filepath.Join(in.spec.Dir, logFile))
	if err != nil {
		return "it printed nothing"
	}
	defer f.Close()
	buf := make([]byte, most)
	info, err := f.Stat()
	if err != nil {
		return "it printed nothing"
	}
	n, err := f.ReadAt(buf, max(0, info.Size()-most))
	if n == 0 || err != nil && !errors.Is(err, io.EOF) {
		return "it printed nothing"
	}
	return fmt.Sprintf("its last output: %q", buf[:n])
}
