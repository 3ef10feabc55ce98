package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/hearth-build/hearth/runners"
	"github.com/hearth-build/hearth/runners/podman"
)

// containerFlags say what containers there are, and how they are kept.
type containerFlags struct {
	DataDir         string        `help:"Directory for everything that hearth keeps." default:"${data_dir}" type:"path"`
	MaxRunners      int           `help:"Most containers at a time, idle ones included; 0 takes twice the slots and 4." default:"0"`
	Pause           string        `help:"When an idle container is paused: adaptive (if it burns CPU), always, never." enum:"adaptive,always,never" default:"adaptive"`
	PauseDelay      time.Duration `help:"How long a container is idle before it may be paused." default:"5s"`
	IdleTimeout     time.Duration `help:"How long a container is idle before it is removed." default:"15m"`
	Limits          limitsFlags   `embed:""`
	Images          imageFlags    `embed:""`
	ExecMode        string        `help:"How commands run in a container: execserver, or podman-exec, the slow way to compare with." enum:"execserver,podman-exec" default:"execserver"`
	ExecServer      string        `help:"The hearth-execserver program; default: the one beside this program." name:"execserver" placeholder:"FILE"`
	UserNamespaces  string        `help:"Which containers are in a user namespace, so that root in them is nobody on the host: auto (those of images, if this host can do that), on (those of images, or they do not start), off. Those of the image \"host\" never are." enum:"auto,on,off" default:"auto"`
	HostRoot        string        `help:"Directory that the container image \"host\" shows." default:"/" type:"path"`
	RunnerMemory    bytesFlag     `help:"Most memory that a container may use, such as 8GiB; 0 takes seven eighths of the machine's." default:"0"`
	HostNetwork     bool          `help:"Let actions use the host's own network, with all that listens on its loopback, if they ask for network=host." name:"allow-host-network"`
	RunnerProcesses int64         `help:"Most processes and threads that a container may have; 0 takes 4096." default:"0"`
	RunnerCPUs      int           `help:"Most CPUs that a container may keep busy; 0 takes all of the machine's." name:"runner-cpus" default:"0"`
	PodmanSocket    string        `help:"Socket of a podman service; default: podman's own, or else a service that hearth starts." placeholder:"PATH"`
}

// validate finds the exec server, and names every bad flag.
func (c *containerFlags) validate() error {
	var errs []error
	if c.IdleTimeout <= 0 {
		errs = append(errs, fmt.Errorf("--idle-timeout is %v: it must be more than 0", c.IdleTimeout))
	}
	if c.RunnerMemory < 0 || c.RunnerMemory > 0 && int64(c.RunnerMemory) < podman.LeastMemory {
		errs = append(errs, fmt.Errorf("--runner-memory is %d bytes: it must be at least 64MiB, or 0 for seven eighths of the machine's", int64(c.RunnerMemory)))
	}
	if c.RunnerProcesses != 0 && c.RunnerProcesses < podman.LeastProcesses {
		errs = append(errs, fmt.Errorf("--runner-processes is %d: it must be at least %d, or 0 for %d", c.RunnerProcesses, podman.LeastProcesses, podman.DefaultProcesses))
	}
	errs = append(errs, notNegative(map[string]int64{
		"max-runners": int64(c.MaxRunners), "runner-cpus": int64(c.RunnerCPUs), "pause-delay": int64(c.PauseDelay),
	}), c.Limits.validate(), c.Images.validate())
	var err error
	if c.ExecServer, err = findExecServer(c.ExecServer); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// newBackend makes what opens podman when it is needed. Its containers share a
// directory of the host, if one is named.
func (c *containerFlags) newBackend(shared string, logger *slog.Logger) *lateBackend {
	return newLateBackend(c.Images.options(podman.Options{
		DataDir: c.DataDir, Socket: c.PodmanSocket, HostRoot: c.HostRoot,
		UserNamespaces: podman.UserNamespaces(c.UserNamespaces),
		Shared:         shared, ExecServer: c.ExecServer, ExecMode: podman.ExecMode(c.ExecMode), Memory: int64(c.RunnerMemory),
		Processes: c.RunnerProcesses, CPUs: c.RunnerCPUs, Logger: logger,
	}), logger)
}

// newPool makes the pool of the back end's containers, whose directories are in dir.
func (c *containerFlags) newPool(backend runners.Backend, dir string, logger *slog.Logger) (*runners.Pool, error) {
	return runners.NewPool(backend, runners.Options{
		Dir: dir, MaxRunners: c.MaxRunners, Pause: runners.PausePolicy(c.Pause),
		PauseDelay: pauseDelay(c.PauseDelay), IdleTimeout: c.IdleTimeout, Limits: c.Limits.limits(), Logger: logger,
		Spares: c.Limits.SpareRunners, DemandFile: filepath.Join(c.DataDir, "demand.json"),
	})
}

// findExecServer finds the program that is bind-mounted into every container.
func findExecServer(named string) (string, error) {
	const program = "hearth-execserver"
	if named == "" {
		self, err := os.Executable()
		if err != nil {
			return "", fmt.Errorf("find hearth's own program: %w", err)
		}
		named = filepath.Join(filepath.Dir(self), program)
		if _, err := os.Stat(named); err != nil {
			if named, err = exec.LookPath(program); err != nil {
				return "", fmt.Errorf("%s is neither beside %s nor in PATH: build it with `make build`, or name it with --execserver", program, self)
			}
		}
	}
	info, err := os.Stat(named)
	if err != nil {
		return "", fmt.Errorf("--execserver: %w", err)
	}
	if info.IsDir() || info.Mode()&0o111 == 0 {
		return "", fmt.Errorf("--execserver %s is not a program", named)
	}
	return filepath.Abs(named)
}

// pauseDelay makes 0 what it says, which the pool would take for its default.
func pauseDelay(d time.Duration) time.Duration {
	if d == 0 {
		return runners.PauseAtOnce
	}
	return d
}
