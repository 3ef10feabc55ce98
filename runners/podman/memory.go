package podman

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// LeastMemory is what a runner must be allowed: its exec server takes some 10 MB.
const LeastMemory = 64 << 20

// machineMemory is what there is for everybody: the machine's, or as much of it
// as all cgroups seen here may use, where that is less, as in a container.
func (c cgroups) machineMemory() (int64, error) {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return 0, fmt.Errorf("find out how much memory there is: %w", err)
	}
	total := int64(info.Totalram) * int64(info.Unit)
	h, ok := c.find("memory")
	if !ok {
		return total, nil
	}
	name := "memory.limit_in_bytes"
	if len(h.controllers) == 0 {
		name = "memory.max" // which the root of all cgroups does not have
	}
	file, err := os.Open(filepath.Join(h.mount.point, name))
	if errors.Is(err, fs.ErrNotExist) {
		return total, nil
	}
	if err != nil {
		return 0, fmt.Errorf("find out how much memory there is: %w", err)
	}
	limit, err := readLimit(file)
	if err := errors.Join(err, file.Close()); err != nil {
		return 0, fmt.Errorf("find out how much memory there is: %w", err)
	}
	if limit > 0 {
		total = min(total, limit)
	}
	return total, nil
}

// controls tells whether a controller can limit what containers use.
func (c cgroups) controls(controller string) bool {
	if c.limited {
		return slices.Contains(c.delegated, controller)
	}
	h, ok := c.find(controller)
	if !ok {
		return false
	}
	if slices.Contains(h.controllers, controller) {
		return true
	}
	text, err := os.ReadFile(filepath.Join(h.mount.point, "cgroup.controllers"))
	return err == nil && slices.Contains(strings.Fields(string(text)), controller)
}

// memoryLimit is what a runner may use: what was asked for, or seven eighths of
// what there is, so that no single action takes the host down; 0: the host
// cannot limit it.
func (c cgroups) memoryLimit(asked int64) (int64, error) {
	if !c.controls("memory") {
		return 0, nil
	}
	if asked > 0 {
		return asked, nil
	}
	total, err := c.machineMemory()
	return max(total/8*7, LeastMemory), err
}

// share is the size of a file system in memory: a part of what the runner may
// use, so that one that is full makes writes fail and does not use up the memory
// of its processes, which nobody could give back.
func (b *Backend) share(part int64) string {
	if b.memory == 0 {
		return "" // the kernel's default, half of the machine's memory
	}
	return fmt.Sprintf("size=%d", b.memory/part)
}
