package podman

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/containers/podman/v5/pkg/bindings/containers"

	"github.com/hearth-build/hearth/execserver"
	"github.com/hearth-build/hearth/runners"
)

// instance is a container whose commands run through the exec server. What start
// has not come to yet is nil or empty.
type instance struct {
	b      *Backend
	spec   runners.Spec
	root   int    // of the container, on the host; 0: it is in no user namespace
	id     string // of the container
	init   *pidfd // its first process, the exec server
	cgroup *cgroupFiles
	client *execserver.Client

	over atomic.Bool // the exec server ended with a command, whose result said so

	mu       sync.Mutex // guards all below; held during a removal
	released bool
	gone     bool
}

var (
	_ runners.Instance = (*instance)(nil)
	_ runners.Lends    = (*instance)(nil)
	_ runners.Maps     = (*instance)(nil)
)

// Run implements runners.Runs.
func (in *instance) Run(ctx context.Context, cmd runners.Command, stdout, stderr io.Writer) (runners.Result, error) {
	return in.measured(ctx, func() (runners.Result, error) {
		res, err := in.client.Run(ctx, cmd, stdout, stderr)
		return runners.ResultOf(res), err
	})
}

// Work implements runners.Lends.
func (in *instance) Work(ctx context.Context, cmd runners.WorkerCommand, stderr io.Writer, talk func(runners.Worker) error) (runners.Result, error) {
	return in.measured(ctx, func() (runners.Result, error) {
		res, err := in.client.Work(ctx, cmd, stderr, talk)
		return runners.ResultOf(res), err
	})
}

// measured adds to the result of a command what its cgroup counted meanwhile.
func (in *instance) measured(ctx context.Context, run func() (runners.Result, error)) (runners.Result, error) {
	if in.over.Load() {
		return runners.Result{}, fmt.Errorf("container %s ran out of memory with an earlier command, and is gone", in.spec.ID)
	}
	if err := in.cgroup.begin(); err != nil {
		return runners.Result{}, fmt.Errorf("container %s: %w", in.spec.ID, err)
	}
	start := time.Now()
	res, err := run()
	var notStarted *runners.StartError
	if errors.As(err, &notStarted) {
		return res, err
	}
	unknown := in.cgroup.end(&res)
	switch {
	case err == nil && unknown != nil:
		in.b.log.Warn("it is not known what an action used", "runner", in.spec.ID, "error", unknown)
	case err != nil && res.Memory.Kills > 0 && ctx.Err() == nil && in.isGone(ctx):
		// The kernel ended all there was, and with the exec server the rest, which it
		// may go on to count.
		in.over.Store(true)
		res.Signal, res.Duration = syscall.SIGKILL, time.Since(start)
		return res, nil
	}
	return res, err
}

// isGone waits a little for the end of the container's processes: the first one
// ends last.
func (in *instance) isGone(ctx context.Context) bool {
	ended, err := in.init.ended(ctx, killPatience)
	return ended && err == nil
}

// Freeze implements runners.Freezes.
func (in *instance) Freeze(ctx context.Context) error {
	if !in.b.cgroups.ofContainers() {
		return runners.ErrNoCgroup
	}
	if in.cgroup.canFreeze() {
		err := in.cgroup.setFrozen(ctx, true)
		if err != nil {
			// Half frozen is not thawed, as the caller believes now.
			err = errors.Join(err, in.cgroup.setFrozen(context.WithoutCancel(ctx), false))
			return fmt.Errorf("freeze container %s: %w", in.spec.ID, err)
		}
		return nil
	}
	return in.b.call(ctx, "pause container "+in.spec.ID, func(ctx context.Context) error {
		return containers.Pause(ctx, in.id, nil)
	})
}

// Thaw implements runners.Freezes.
func (in *instance) Thaw(ctx context.Context) error {
	if in.cgroup.canFreeze() {
		if err := in.cgroup.setFrozen(ctx, false); err != nil {
			return fmt.Errorf("thaw container %s: %w", in.spec.ID, err)
		}
		return nil
	}
	return in.b.call(ctx, "unpause container "+in.spec.ID, func(ctx context.Context) error {
		return containers.Unpause(ctx, in.id, nil)
	})
}

// CPUTime implements runners.Instance.
func (in *instance) CPUTime(ctx context.Context) (time.Duration, error) {
	if !in.b.cgroups.ofContainers() {
		return 0, runners.ErrNoCgroup
	}
	if in.cgroup.cpu != nil {
		used, err := in.cgroup.cpuTime()
		if err != nil {
			return 0, fmt.Errorf("CPU time of container %s: %w", in.spec.ID, err)
		}
		return used, nil
	}
	var used time.Duration
	err := in.b.call(ctx, "CPU time of container "+in.spec.ID, func(ctx context.Context) error {
		reports, err := containers.Stats(ctx, []string{in.id}, new(containers.StatsOptions).WithStream(false))
		if err != nil {
			return err
		}
		for report := range reports {
			err = errors.Join(err, report.Error)
			for _, stats := range report.Stats {
				used = time.Duration(stats.CPUNano)
			}
		}
		return err
	})
	return used, err
}

// Remove implements runners.Instance.
func (in *instance) Remove(ctx context.Context) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.gone {
		return nil
	}
	ctx, cancel := lingering(ctx, mutationPatience)
	defer cancel()
	if err := in.kill(ctx); err != nil {
		return err
	}
	if err := in.b.removeContainer(ctx, in.spec.ID); err != nil {
		return err
	}
	if err := in.release(); err != nil {
		return err
	}
	if err := clearRunnerDir(in.spec.Dir); err != nil {
		return err
	}
	in.b.setLive(in.spec.ID, false)
	in.gone = true
	return nil
}

// kill ends the processes, frozen or not; podman is told after. That takes half
// of the time that podman needs to do both.
func (in *instance) kill(ctx context.Context) error {
	if in.released || in.init == nil {
		return nil
	}
	if err := in.init.signal(syscall.SIGKILL); err != nil {
		return err
	}
	if in.cgroup == nil || !in.cgroup.canFreeze() {
		return nil // podman unpauses what it paused
	}
	if ended, err := in.init.ended(ctx, 0); ended || err != nil {
		return err // its cgroup may be gone as well
	}
	err := in.cgroup.setFrozen(ctx, false)
	if errors.Is(err, syscall.ENODEV) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// release closes what belongs to this process.
func (in *instance) release() error {
	if in.released {
		return nil
	}
	in.released = true
	var errs []error
	if in.client != nil {
		errs = append(errs, in.client.Close())
	}
	if in.init != nil {
		errs = append(errs, in.init.close())
	}
	if in.cgroup != nil {
		errs = append(errs, in.cgroup.close())
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("release container %s: %w", in.spec.ID, err)
	}
	return nil
}

// clearRunnerDir removes what Start made in a runner's directory, and what was
// mounted there since.
func clearRunnerDir(dir string) error {
	if _, err := unmountBelow(dir); err != nil {
		return err
	}
	err := os.Remove(filepath.Join(dir, logFile))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	for _, name := range []string{ctlDir, runners.WorkDirName} {
		err = errors.Join(err, runners.RemoveTree(filepath.Join(dir, name)))
	}
	return err
}
