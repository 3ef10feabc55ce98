package podman_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/hearth-build/hearth/runners"
	"github.com/hearth-build/hearth/runners/podman"
)

// TestRunnersAreLimited: a container has each limit that the host's cgroups can set,
// and the processes of an action cannot be more than one of them says.
func TestRunnersAreLimited(t *testing.T) {
	const processes, cpus = 100, 1
	opts := options(t.TempDir())
	opts.Processes, opts.CPUs, opts.Memory = processes, cpus, smallMemory
	r := start(t, open(t, opts), runners.HostImage)
	for _, limit := range []struct{ controller, v1, v2, want1, want2 string }{
		{"pids", "pids.max", "pids.max", fmt.Sprintln(processes), fmt.Sprintln(processes)},
		{"cpu", "cpu.cfs_quota_us", "cpu.max", fmt.Sprintln(cpus * 100_000), fmt.Sprintln(cpus*100_000, 100_000)},
		{"memory", "memory.limit_in_bytes", "memory.max", fmt.Sprintln(smallMemory), fmt.Sprintln(smallMemory)},
	} {
		script, want := "cat /sys/fs/cgroup/"+limit.controller+"/"+limit.v1, limit.want1
		switch {
		case hasV1(limit.controller):
		case slices.Contains(controllersOfV2(), limit.controller):
			script, want = "cat /sys/fs/cgroup/"+limit.v2, limit.want2
		default:
			t.Logf("this host cannot limit %s", limit.controller)
			continue
		}
		if got := r.run(shell(script)); got != want {
			t.Errorf("%s prints %q, want %q", script, got, want)
		}
	}
	if !hasV1("pids") && !slices.Contains(controllersOfV2(), "pids") {
		return
	}
	bomb := "i=0; while [ $i -lt 300 ]; do sleep 1000 & i=$((i+1)); done"
	if res := r.result(shell(bomb)); res.ExitCode == 0 || res.Killed < processes/2 || res.Killed > processes {
		t.Errorf("300 processes of at most %d: %+v", processes, res)
	}
	if out := r.run(shell("echo all right")); out != "all right\n" {
		t.Errorf("the next command printed %q", out)
	}
}

// hasV1 tells whether containers have a controller in a hierarchy of version 1. The
// top of version 2 may have any directories.
func hasV1(controller string) bool {
	_, v2 := os.Stat("/sys/fs/cgroup/cgroup.controllers")
	_, v1 := os.Stat("/sys/fs/cgroup/" + controller)
	return v2 != nil && v1 == nil
}

// controllersOfV2 are those of cgroup v2, if it is what containers have.
func controllersOfV2() []string {
	text, err := os.ReadFile("/sys/fs/cgroup/cgroup.controllers")
	if err != nil {
		return nil
	}
	return strings.Fields(string(text))
}

// TestImpossibleLimits are refused before anything is started.
func TestImpossibleLimits(t *testing.T) {
	opts := options(t.TempDir())
	opts.Processes, opts.CPUs = podman.LeastProcesses-1, -1
	err := opts.Validate()
	if err == nil || !strings.Contains(err.Error(), "Processes is 63") || !strings.Contains(err.Error(), "CPUs is -1") {
		t.Errorf("got %v", err)
	}
}
