package e2e_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestNothingGrows runs 10,000 actions that do nothing on recycled runners:
// between the 2,000th and the last neither memory nor anything else of hearth's
// may grow.
func TestNothingGrows(t *testing.T) {
	dataDir := filepath.Join(shortTempDir(t), "data")
	// What is remembered of actions reaches its bound before the first measurement.
	h := startCommand(t, dataDir, exec.Command(program(t), append(serveArgs("/", dataDir), "--history=1000")...))
	h.nops(t, 2000)
	before := h.footprint(t)
	h.nops(t, 8000)
	after := h.footprint(t)
	t.Logf("after 2,000 actions: %+v", before)
	t.Logf("after 10,000 actions: %+v", after)
	if after.residentKiB > before.residentKiB*11/10 {
		t.Errorf("resident memory grew from %d to %d KiB", before.residentKiB, after.residentKiB)
	}
	const slack = 4 // connections come and go
	if after.files > before.files+slack {
		t.Errorf("open files grew from %d to %d", before.files, after.files)
	}
	if after.mounts > before.mounts || after.runners > before.runners || after.leftovers > 0 || after.zombies > 0 {
		t.Errorf("something was left: %+v, then %+v", before, after)
	}
}

// nops runs actions, checks that none failed, and returns what the bench measured.
func (h *hearth) nops(t *testing.T, count int) {
	t.Helper()
	cmd := exec.Command("../bin/hearth", "bench", "nop", "--endpoint="+h.endpoint(t), "--json", "--concurrency=4",
		"--property=recycle-runner=true", "--duration=10m", fmt.Sprintf("--count=%d", count))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("hearth bench: %v\n%s", err, &stderr)
	}
	var results []struct{ Count int }
	if err := json.Unmarshal(out, &results); err != nil || len(results) != 1 || results[0].Count != count {
		t.Fatalf("hearth bench printed %s (%v)", out, err)
	}
}

func (h *hearth) endpoint(t *testing.T) string {
	t.Helper()
	_, rest, _ := strings.Cut(h.bazelrc, "--remote_executor=")
	endpoint, _, found := strings.Cut(rest, "\n")
	if !found {
		t.Fatalf("no endpoint in %q", h.bazelrc)
	}
	return endpoint
}

// footprint is what a hearth takes up at a moment when it has nothing to do.
type footprint struct {
	residentKiB, files, mounts int
	runners                    int // directories of runners
	leftovers                  int // in trash and spool
	zombies                    int // below hearth, its podman and its containers
}

func (h *hearth) footprint(t *testing.T) footprint {
	t.Helper()
	h.settle(t)
	pid := strconv.Itoa(h.cmd.Process.Pid)
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	return footprint{
		residentKiB: residentKiB(t, pid),
		files:       entries(t, "/proc/"+pid+"/fd"),
		mounts:      bytes.Count(mounts, []byte(h.dataDir)),
		runners:     entries(t, filepath.Join(h.dataDir, "runners")),
		leftovers:   entries(t, filepath.Join(h.dataDir, "trash")) + entries(t, filepath.Join(h.dataDir, "spool")),
		zombies:     zombies(t),
	}
}

// settle waits until the trash is empty, which happens in the background.
func (h *hearth) settle(t *testing.T) {
	t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for range 300 {
		if entries(t, filepath.Join(h.dataDir, "trash")) == 0 {
			return
		}
		<-tick.C
	}
}

func entries(t *testing.T, dir string) int {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return len(list)
}

func residentKiB(t *testing.T, pid string) int {
	t.Helper()
	return statusKiB(t, pid, "VmRSS:")
}

// statusKiB is a number of kilobytes in the status of a process.
func statusKiB(t *testing.T, pid, name string) int {
	t.Helper()
	status, err := os.ReadFile("/proc/" + pid + "/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), name)
	n, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// zombies counts the processes of this machine that ended and were not waited
// for, and whose parent is an exec server, hearth or podman.
func zombies(t *testing.T) int {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, name := range files {
		stat, err := os.ReadFile(name)
		if err != nil {
			continue // it ended meanwhile
		}
		_, rest, _ := strings.Cut(string(stat), ") ")
		fields := strings.Fields(rest)
		if len(fields) < 2 || fields[0] != "Z" {
			continue
		}
		parent, err := os.ReadFile("/proc/" + fields[1] + "/comm")
		if err == nil && (strings.Contains(string(parent), "hearth") || strings.Contains(string(parent), "podman")) {
			n++
		}
	}
	return n
}
