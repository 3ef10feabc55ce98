package podman

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// hierarchy is where cgroups of a hierarchy appear as directories.
type hierarchy struct {
	mount mount

	// controllers of version 1; none: it is version 2.
	controllers []string
}

// cgroups is how the host has its cgroups mounted.
type cgroups struct {
	hierarchies []hierarchy
	// limited is for an ordinary user, whose containers have the controllers that were
	// delegated, and no cgroups of their own if none was.
	limited   bool
	delegated []string
}

// ofContainers tells whether containers have cgroups of their own.
func (c cgroups) ofContainers() bool { return !c.limited || len(c.delegated) > 0 }

// cgroupRoot is where container engines look for cgroups.
const cgroupRoot = "/sys/fs/cgroup"

func readCgroups() (cgroups, error) {
	mounts, err := readMounts()
	if err != nil {
		return cgroups{}, err
	}
	var c cgroups
	for _, m := range mounts {
		if !isBelow(m.point, cgroupRoot) || !m.visible() {
			continue
		}
		switch m.fsType {
		case "cgroup2":
			c.hierarchies = append(c.hierarchies, hierarchy{mount: m})
		case "cgroup":
			c.hierarchies = append(c.hierarchies, hierarchy{mount: m, controllers: m.superOpt})
		}
	}
	return c, nil
}

// delegate finds out what an ordinary user's containers can have, which is nothing with
// version 1.
func (c *cgroups) delegate() error {
	c.limited = true
	if c.mode() != cgroupV2 {
		return nil
	}
	dir, err := c.own()
	if err != nil {
		return err
	}
	text, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return err
	}
	if unix.Access(dir, unix.W_OK) == nil || unix.Access(filepath.Dir(dir), unix.W_OK) == nil {
		c.delegated = strings.Fields(string(text))
	}
	return nil
}

// own is the directory of this process's cgroup, of version 2.
func (c cgroups) own() (string, error) {
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", err
	}
	h := c.hierarchies[0]
	group, ok := groupIn(string(text), h, "")
	if !ok || !isBelow(group, h.mount.root) {
		return "", fmt.Errorf("the cgroup of this process, %s, cannot be seen at %s", group, h.mount.point)
	}
	rel, err := filepath.Rel(h.mount.root, group)
	return filepath.Join(h.mount.point, rel), err
}

// cgroupMode is the arrangement of versions on a host.
type cgroupMode string

const (
	cgroupNone   cgroupMode = "none"
	cgroupV1     cgroupMode = "v1"
	cgroupV2     cgroupMode = "v2"
	cgroupHybrid cgroupMode = "hybrid (v1 with v2 beside it)"
)

func (c cgroups) mode() cgroupMode {
	var v1, v2 bool
	for _, h := range c.hierarchies {
		if len(h.controllers) == 0 {
			v2 = true
		} else {
			v1 = true
		}
	}
	switch {
	case v1 && v2:
		return cgroupHybrid
	case v1:
		return cgroupV1
	case v2:
		return cgroupV2
	default:
		return cgroupNone
	}
}

// find returns the hierarchy of version 1 that has a controller, else version 2.
func (c cgroups) find(controller string) (hierarchy, bool) {
	for _, h := range c.hierarchies {
		if slices.Contains(h.controllers, controller) {
			return h, true
		}
	}
	for _, h := range c.hierarchies {
		if len(h.controllers) == 0 {
			return h, true
		}
	}
	return hierarchy{}, false
}

// directory finds the cgroup of a container, by a process in it, in the
// hierarchy that has a controller. Only a directory that bears the container's
// own ID will do: anything else would freeze or measure others as well.
func (c cgroups) directory(pid int, containerID, controller string) (dir string, v2 bool, err error) {
	h, ok := c.find(controller)
	if !ok {
		return "", false, fmt.Errorf("no cgroup hierarchy with %s is mounted", controller)
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return "", false, err
	}
	group, ok := groupIn(string(text), h, controller)
	if !ok {
		return "", false, fmt.Errorf("process %d is in no cgroup of %s", pid, controller)
	}
	// A runtime may put processes into a part of the container's cgroup.
	for ; !strings.Contains(filepath.Base(group), containerID); group = filepath.Dir(group) {
		if group == "/" || group == "." {
			return "", false, fmt.Errorf("process %d is in no cgroup of container %s", pid, containerID)
		}
	}
	if !isBelow(group, h.mount.root) {
		return "", false, fmt.Errorf("cgroup %s is outside of what is mounted at %s", group, h.mount.point)
	}
	rel, err := filepath.Rel(h.mount.root, group)
	return filepath.Join(h.mount.point, rel), len(h.controllers) == 0, err
}

// groupIn reads the lines "4:cpu,cpuacct:/group" of /proc/PID/cgroup; that of
// version 2 is "0::/group".
func groupIn(text string, h hierarchy, controller string) (string, bool) {
	for line := range strings.Lines(text) {
		parts := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(parts) != 3 {
			continue
		}
		isV2 := parts[0] == "0" && parts[1] == ""
		hasIt := slices.Contains(strings.Split(parts[1], ","), controller)
		if isV2 && len(h.controllers) == 0 || hasIt && len(h.controllers) > 0 {
			return filepath.Clean(parts[2]), true
		}
	}
	return "", false
}
