package main

import (
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/hearth-build/hearth/reapi/execution"
)

// capacityFlags are what actions share, beside the CPUs.
type capacityFlags struct {
	Memory   bytesFlag          `help:"Memory for actions, such as 12GiB; one takes a modest share unless it says EstimatedMemory. 0 takes what the machine has, less a reserve." default:"0"`
	Resource map[string]float64 `help:"Another resource that actions ask for with the property resources:NAME, and how much there is of it." placeholder:"NAME=N"`
}

// validate fills in the memory, and names every bad flag.
func (c *capacityFlags) validate() error {
	var errs []error
	for name, amount := range c.Resource {
		if name == "" || !(amount > 0 && amount <= math.MaxInt32) {
			errs = append(errs, fmt.Errorf("--resource %s=%v: a resource has a name, and there is more than 0 of it", name, amount))
		}
	}
	if c.Memory < 0 {
		errs = append(errs, fmt.Errorf("--memory is %v: it cannot be negative", c.Memory))
	}
	if c.Memory == 0 {
		total, err := machineMemory()
		if err != nil {
			errs = append(errs, fmt.Errorf("find out how much memory there is (say it with --memory): %w", err))
		}
		c.Memory = bytesFlag(total - reserve(total))
	}
	return errors.Join(errs...)
}

// reserve is the part of the machine's memory that is not for actions: hearth
// itself, podman, and the page cache without which nothing is fast.
func reserve(total int64) int64 {
	const least = 512 << 20
	return min(max(total/8, least), total/2)
}

// machineMemory is what this process's machine or container has.
func machineMemory() (int64, error) {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return 0, err
	}
	total := int64(info.Totalram) * int64(info.Unit)
	// In a container, the limit of its cgroup.
	for _, file := range []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"} {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // of the other version
		}
		if limit, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil { // else "max"
			total = min(total, limit)
		}
	}
	return total, nil
}

// total is what all actions share.
func (c *machineFlags) total() execution.Resources {
	total := execution.Resources{
		MilliCPU: int64(c.Slots) * 1000,
		Memory:   int64(c.Capacity.Memory),
		Runners:  int64(c.MaxRunners),
		Custom:   map[string]int64{},
	}
	for name, amount := range c.Capacity.Resource {
		total.Custom[strings.ToLower(name)] = int64(math.Ceil(amount * 1000))
	}
	return total
}
