package podman

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"

	spec "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/hearth-build/hearth/runners"
	"github.com/hearth-build/hearth/runners/rootless"
)

// hostPlan is what the host makes of hearth's containers.
type hostPlan struct {
	cgroups cgroups
	// runtime is the OCI runtime, and why why it is the one.
	runtime, why string
	// ordinary: podman runs for an ordinary user.
	ordinary bool
	// systemd is in charge of cgroups.
	systemd bool
	limits  []spec.POSIXRlimit
}

// planFor looks at the host.
func planFor() (hostPlan, error) {
	groups, err := readCgroups()
	if err != nil {
		return hostPlan{}, fmt.Errorf("find out how cgroups are mounted: %w", err)
	}
	_, ordinary := rootless.User()
	if ordinary {
		if err := groups.delegate(); err != nil {
			return hostPlan{}, fmt.Errorf("find out which cgroup controllers were delegated: %w", err)
		}
	}
	plan := hostPlan{cgroups: groups, ordinary: ordinary}
	if plan.runtime, plan.why, err = chooseRuntime(groups.mode(), installed); err != nil {
		return hostPlan{}, err
	}
	_, err = os.Stat("/run/systemd/system")
	plan.systemd = err == nil && groups.ofContainers()
	plan.limits, err = ulimits()
	return plan, err
}

func installed(name string) bool {
	_, err := exec.LookPath(name)
	return err == nil
}

// chooseRuntime picks the OCI runtime that works with the host's cgroups.
func chooseRuntime(mode cgroupMode, installed func(string) bool) (runtime, why string, err error) {
	missing := func(what, packages string) (string, string, error) {
		return "", "", fmt.Errorf("%w: %s; install it, on Debian and Ubuntu with `apt-get install %s`", runners.ErrBackend, what, packages)
	}
	switch {
	case mode == cgroupNone:
		return "", "", fmt.Errorf("%w: no cgroups are mounted at %s, and containers need them: mount them with "+
			"`mount -t cgroup2 none %s`", runners.ErrBackend, cgroupRoot, cgroupRoot)
	case mode == cgroupHybrid && installed("runc"):
		return "runc", "crun refuses hybrid cgroups", nil
	case mode == cgroupHybrid:
		return missing("cgroups are hybrid, which of the OCI runtimes only runc accepts, and runc is not installed", "runc")
	case installed("crun"):
		return "crun", "the fastest", nil
	case installed("runc"):
		return "runc", "crun is not installed", nil
	default:
		return missing("no OCI runtime is installed", "crun")
	}
}

// ulimits are the limits of commands. podman's defaults are more than a process
// without CAP_SYS_RESOURCE may give, and then no container starts.
func ulimits() ([]spec.POSIXRlimit, error) {
	// podman may lower its own limit of processes to this, and cannot give more.
	text, err := os.ReadFile("/proc/sys/kernel/pid_max")
	if err != nil {
		return nil, fmt.Errorf("read the limit of processes: %w", err)
	}
	processes, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return nil, fmt.Errorf("read the limit of processes: %w", err)
	}
	files, err := limit("nofile", unix.RLIMIT_NOFILE, 1<<20)
	if err != nil {
		return nil, err
	}
	// Programs that close all descriptors they might have are slow with more.
	files.Soft = min(files.Hard, 1<<16)
	procs, err := limit("nproc", unix.RLIMIT_NPROC, processes)
	return []spec.POSIXRlimit{files, procs}, err
}

// limit is what is wanted, or as much of it as this process may have.
func limit(name string, resource int, wanted uint64) (spec.POSIXRlimit, error) {
	var own unix.Rlimit
	if err := unix.Getrlimit(resource, &own); err != nil {
		return spec.POSIXRlimit{}, fmt.Errorf("read the limit %s: %w", name, err)
	}
	most := min(wanted, own.Max)
	return spec.POSIXRlimit{Type: name, Soft: most, Hard: most}, nil // the service makes the name RLIMIT_...
}

// containersConf configures a service of hearth's own, which starts this conmon, or its
// own if that is empty.
func (p hostPlan) containersConf(conmon string) string {
	var b strings.Builder
	fmt.Fprintf(&b, `# Written by hearth, for the podman service that it starts.
[containers]
log_driver = "k8s-file"
pids_limit = 0
default_ulimits = [%s]

[engine]
events_logger = "file"
# How long the result of an exec is kept, and two processes with it.
exit_command_delay = 10
runtime = %q
`, p.ulimitList(), p.runtime)
	if conmon != "" {
		fmt.Fprintf(&b, "conmon_path = [%q]\n", conmon)
	}
	if !p.systemd {
		fmt.Fprintln(&b, `cgroup_manager = "cgroupfs"`)
	}
	return b.String()
}

// globalFlags are what of that a person has to tell podman.
func (p hostPlan) globalFlags() []string {
	flags := []string{"--runtime=" + p.runtime}
	if !p.systemd {
		flags = append(flags, "--cgroup-manager=cgroupfs")
	}
	return flags
}

func (p hostPlan) ulimitList() string {
	var list []string
	for _, l := range p.limits {
		list = append(list, fmt.Sprintf(`"%s=%d:%d"`, l.Type, l.Soft, l.Hard))
	}
	return strings.Join(list, ", ")
}
