package podman

import (
	"os"
	"path/filepath"
	"slices"

	spec "github.com/opencontainers/runtime-spec/specs-go"
)

const (
	// DefaultProcesses is more than compilers and tests have, threads included, and
	// an eighth of what even a small host has process IDs for.
	DefaultProcesses = 4096
	// LeastProcesses is what a runner must be allowed: its exec server has some
	// fifteen threads.
	LeastProcesses = 64
)

// cpuPeriod is the time, in microseconds, over which the use of CPUs is limited.
const cpuPeriod uint64 = 100_000

// setLimits finds out which limits the host's cgroups can set.
func (b *Backend) setLimits() (err error) {
	if b.memory, err = b.cgroups.memoryLimit(b.opts.Memory); err != nil {
		return err
	}
	if b.memory == 0 {
		b.log.Warn("actions can use all of the machine's memory: its cgroups have no memory controller")
	}
	switch {
	case b.cgroups.controls("pids"):
		b.processes = b.opts.Processes
	case b.cgroups.limited:
		b.limits = atMost(b.limits, "nproc", uint64(b.opts.Processes))
		b.log.Warn("the runners' limit of processes is for all of them together: the user of hearth was given no pids controller")
	default:
		b.log.Warn("an action can use up the machine's process IDs: its cgroups have no pids controller")
	}
	if b.cgroups.limitsCPU() {
		b.cpus = b.opts.CPUs
	} else {
		b.log.Warn("an action can use all of the machine's CPUs: its cgroups cannot limit that")
	}
	return nil
}

// atMost lowers a limit of commands. That of processes counts all that a user has in
// the user namespace, in whichever containers.
func atMost(limits []spec.POSIXRlimit, name string, most uint64) []spec.POSIXRlimit {
	lowered := slices.Clone(limits)
	for i := range lowered {
		if l := &lowered[i]; l.Type == name {
			l.Hard = min(l.Hard, most)
			l.Soft = min(l.Soft, l.Hard)
		}
	}
	return lowered
}

// limitsCPU tells whether the kernel can keep a cgroup from using more CPU time
// than it was given, which is an option of its own.
func (c cgroups) limitsCPU() bool {
	if !c.controls("cpu") {
		return false
	}
	h, _ := c.find("cpu")
	if len(h.controllers) == 0 {
		return true // the root of version 2 has no file that would tell
	}
	_, err := os.Stat(filepath.Join(h.mount.point, "cpu.cfs_quota_us"))
	return err == nil
}

// resources limits a container. It may not swap: that would slow down everybody
// else before it is stopped.
func (b *Backend) resources() *spec.LinuxResources {
	limits := &spec.LinuxResources{}
	if memory := b.memory; memory > 0 {
		limits.Memory = &spec.LinuxMemory{Limit: &memory, Swap: &memory}
	}
	if b.processes > 0 {
		limits.Pids = &spec.LinuxPids{Limit: b.processes}
	}
	if b.cpus > 0 {
		period, quota := cpuPeriod, int64(cpuPeriod)*int64(b.cpus)
		limits.CPU = &spec.LinuxCPU{Period: &period, Quota: &quota}
	}
	return limits
}
