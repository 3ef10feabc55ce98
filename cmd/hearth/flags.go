package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/docker/go-units"

	"github.com/hearth-build/hearth/reapi"
	"github.com/hearth-build/hearth/runners/podman"
)

// bytesFlag is a size such as 50GiB.
type bytesFlag int64

// UnmarshalText implements encoding.TextUnmarshaler.
func (b *bytesFlag) UnmarshalText(text []byte) error {
	n, err := units.RAMInBytes(string(text))
	*b = bytesFlag(n)
	return err
}

// MarshalText implements encoding.TextMarshaler: in the largest unit that is exact.
func (b bytesFlag) MarshalText() ([]byte, error) {
	n, unit := int64(b), ""
	for _, larger := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if n == 0 || n%1024 != 0 {
			break
		}
		n, unit = n/1024, larger
	}
	return []byte(strconv.FormatInt(n, 10) + unit), nil
}

// serveCmd is `hearth serve`.
type serveCmd struct {
	Listening listenFlags `embed:""`
	Guard     guardFlags  `embed:""`
	Console   string      `help:"Address of the status pages." default:"127.0.0.1:8981"`
	DataDir   string      `help:"Directory for everything that hearth keeps." default:"${data_dir}" type:"path"`

	Instance  []string  `help:"REAPI instance names to serve; the empty name is served without this flag." placeholder:"NAME"`
	MaxBytes  bytesFlag `help:"Most that the store holds, such as 50GiB; 0 takes four fifths of what the file system can give." default:"0"`
	MaxQueued int       `help:"Most actions that wait." default:"100000"`

	InputRoots string `help:"How input roots appear: mount (an overlay over the store's files), copy (links and copies), or auto: mount where this host can." enum:"auto,mount,copy" default:"auto"`

	Slots           int               `help:"CPUs for actions; one takes 1 unless it says EstimatedCPU." default:"${cpus}"`
	Capacity        capacityFlags     `embed:""`
	MaxRunners      int               `help:"Most containers at a time, idle ones included; 0 takes twice the slots and 4." default:"0"`
	Pause           string            `help:"When an idle container is paused: adaptive (if it burns CPU), always, never." enum:"adaptive,always,never" default:"adaptive"`
	PauseDelay      time.Duration     `help:"How long a container is idle before it may be paused." default:"5s"`
	IdleTimeout     time.Duration     `help:"How long a container is idle before it is removed." default:"15m"`
	Limits          limitsFlags       `embed:""`
	Images          imageFlags        `embed:""`
	ExecMode        string            `help:"How commands run in a container: execserver, or podman-exec, the slow way to compare with." enum:"execserver,podman-exec" default:"execserver"`
	ExecServer      string            `help:"The hearth-execserver program; default: the one beside this program." name:"execserver" placeholder:"FILE"`
	HostRoot        string            `help:"Directory that the container image \"host\" shows." default:"/" type:"path"`
	RunnerMemory    bytesFlag         `help:"Most memory that a container may use, such as 8GiB; 0 takes seven eighths of the machine's." default:"0"`
	HostNetwork     bool              `help:"Let actions use the host's own network, with all that listens on its loopback, if they ask for network=host." name:"allow-host-network"`
	RunnerProcesses int64             `help:"Most processes and threads that a container may have; 0 takes 4096." default:"0"`
	RunnerCPUs      int               `help:"Most CPUs that a container may keep busy; 0 takes all of the machine's." name:"runner-cpus" default:"0"`
	PodmanSocket    string            `help:"Socket of a podman service; default: podman's own, or else a service that hearth starts." placeholder:"PATH"`
	DefaultProperty map[string]string `help:"Platform properties of actions that do not set them." placeholder:"NAME=VALUE"`

	AuditRate float64 `help:"Share of the actions in used containers that are run again in a new one, when nothing waits, to find those whose outputs depend on what was left there; 0.01 is one of a hundred." default:"0"`

	DefaultTimeout time.Duration `help:"Timeout of actions that set none." default:"8h"`
	MaxTimeout     time.Duration `help:"Longest timeout that an action may set." default:"24h"`
	MaxPrinted     bytesFlag     `help:"Most that an action may write to stdout or stderr, each." default:"4GiB"`
	OrphanGrace    time.Duration `help:"How long an action goes on whose client is gone." default:"1m"`
	History        int           `help:"How many actions that ended are remembered, for the console and \"hearth actions\"." default:"10000"`
	DrainTimeout   time.Duration `help:"How long actions in flight may take to finish after SIGTERM." default:"30s"`

	Assets    assetsFlags    `embed:""`
	Backing   backingFlags   `embed:""`
	Telemetry telemetryFlags `embed:""`
}

// validate fills in what has no fixed default, and names every bad flag.
func (c *serveCmd) validate() error {
	var errs []error
	positive := func(flag string, ok bool, value any) {
		if !ok {
			errs = append(errs, fmt.Errorf("--%s is %v: it must be more than 0", flag, value))
		}
	}
	positive("slots", c.Slots > 0, c.Slots)
	positive("max-queued", c.MaxQueued > 0, c.MaxQueued)
	positive("default-timeout", c.DefaultTimeout > 0, c.DefaultTimeout)
	positive("max-timeout", c.MaxTimeout > 0, c.MaxTimeout)
	positive("max-printed", c.MaxPrinted > 0, c.MaxPrinted)
	positive("idle-timeout", c.IdleTimeout > 0, c.IdleTimeout)
	if c.DefaultTimeout > c.MaxTimeout {
		errs = append(errs, fmt.Errorf("--default-timeout %v is over --max-timeout %v", c.DefaultTimeout, c.MaxTimeout))
	}
	if c.RunnerMemory < 0 || c.RunnerMemory > 0 && int64(c.RunnerMemory) < podman.LeastMemory {
		errs = append(errs, fmt.Errorf("--runner-memory is %d bytes: it must be at least 64MiB, or 0 for seven eighths of the machine's", int64(c.RunnerMemory)))
	}
	if c.RunnerProcesses != 0 && c.RunnerProcesses < podman.LeastProcesses {
		errs = append(errs, fmt.Errorf("--runner-processes is %d: it must be at least %d, or 0 for %d", c.RunnerProcesses, podman.LeastProcesses, podman.DefaultProcesses))
	}
	errs = append(errs, notNegative(map[string]int64{
		"max-bytes": int64(c.MaxBytes), "max-runners": int64(c.MaxRunners), "runner-cpus": int64(c.RunnerCPUs), "history": int64(c.History),
		"pause-delay": int64(c.PauseDelay), "orphan-grace": int64(c.OrphanGrace), "drain-timeout": int64(c.DrainTimeout),
	}))
	if !(c.AuditRate >= 0 && c.AuditRate <= 1) {
		errs = append(errs, fmt.Errorf("--audit-rate is %v: it must be from 0, for none, to 1, for all", c.AuditRate))
	}
	if c.MaxRunners == 0 {
		c.MaxRunners = 2*c.Slots + 4
	}
	if c.MaxRunners < c.Slots {
		errs = append(errs, fmt.Errorf("--max-runners %d is less than --slots %d: each running action needs a container", c.MaxRunners, c.Slots))
	}
	for _, name := range c.Instance {
		if err := reapi.CheckInstanceName(name); err != nil {
			errs = append(errs, fmt.Errorf("--instance: %w", err))
		}
	}
	errs = append(errs, c.Capacity.validate(), c.Limits.validate(), c.Images.validate(), c.Assets.validate(), c.Listening.validate(), c.Guard.validate(&c.Listening, c.Console),
		c.Backing.validate(c.Listening.Listen, c.Instance), c.Telemetry.validate())
	var err error
	if c.ExecServer, err = findExecServer(c.ExecServer); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// notNegative names the flags that are.
func notNegative(flags map[string]int64) error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(flags)) {
		if flags[name] < 0 {
			errs = append(errs, fmt.Errorf("--%s cannot be negative", name))
		}
	}
	return errors.Join(errs...)
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
