package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// What a user of Bazel may expect while things break under the server, or an
// action does its worst.

// held is the name of the process of //faults:held.
const held = "hearth-e2e-held"

// orphanGrace of the servers in these tests.
const orphanGrace = 3 * time.Second

// faultFlags are those of the server that is harmed.
var faultFlags = []string{"--orphan-grace=" + orphanGrace.String(), "--runner-memory=512MiB", "--slots=2"}

// TestFaults harms one server, and what is around it, under one Bazel.
func TestFaults(t *testing.T) {
	h := startHearthWith(t, sidRoot(t), faultFlags...)
	f := &faults{h: h, c: newBazel7(t, h)}
	f.c.want(t, 0, []string{"build", "//genrules:joined"}) // the next builds begin at once
	// In this order: after the last one Bazel would have to start anew.
	for _, s := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"RunnerIsKilled", f.runnerIsKilled},
		{"PodmanServiceIsKilled", f.podmanServiceIsKilled},
		{"InputIsEvicted", f.inputIsEvicted},
		{"FiveHundredDaemons", f.fiveHundredDaemons},
		{"TmpIsFull", f.tmpIsFull},
		{"OutOfMemory", f.outOfMemory},
		{"PrintsMuch", f.printsMuch},
		{"DynamicExecution", f.dynamicExecution},
		{"ClientIsKilled", f.clientIsKilled},
	} {
		t.Run(s.name, s.run)
	}
}

// TestFaultsUnderBazel4 is what a Bazel of API 2.0 makes of the cheap ones.
func TestFaultsUnderBazel4(t *testing.T) {
	h := startHearthWith(t, "/", faultFlags...)
	f := &faults{h: h, c: newBazel4(t, h)}
	f.c.want(t, 0, []string{"build", "//genrules:joined"})
	t.Run("RunnerIsKilled", f.runnerIsKilled)
	t.Run("InputIsEvicted", f.inputIsEvicted)
	f.nothingRuns(t)
}

// faults is a server and its Bazel.
type faults struct {
	h *hearth
	c *client
}

// pending is a Bazel command that is running.
type pending struct {
	ended chan struct{}
	r     result
	err   error
}

// start starts a Bazel command. Named after the fault, its actions are in no cache.
func (f *faults) start(t *testing.T, args ...string) *pending {
	t.Helper()
	p := &pending{ended: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	args = append(args, "--action_env=FAULT="+t.Name())
	go func() { // ends with Bazel, for which want waits
		defer close(p.ended)
		p.r, p.err = f.c.exec(ctx, args...)
	}()
	t.Cleanup(func() {
		cancel() // so that a test that failed does not wait
		<-p.ended
		kill(t, processIDs(t, held), syscall.SIGTERM)
	})
	return p
}

// want waits for the command's end.
func (p *pending) want(t *testing.T, exit int, texts ...string) result {
	t.Helper()
	<-p.ended
	if p.err != nil {
		t.Fatal(p.err)
	}
	ended{exit: p.r.exit, stdout: p.r.output}.want(t, exit, texts...)
	return p.r
}

// processIDs are the processes that have text in their command line.
func processIDs(t *testing.T, text string) []int {
	t.Helper()
	var pids []int
	for _, line := range processesWith(t, text) {
		number, _, _ := strings.Cut(line, " ")
		pid, err := strconv.Atoi(number)
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	return pids
}

func kill(t *testing.T, pids []int, sig syscall.Signal) {
	t.Helper()
	for _, pid := range pids {
		if err := syscall.Kill(pid, sig); err != nil && err != syscall.ESRCH {
			t.Errorf("send %v to process %d: %v", sig, pid, err)
		}
	}
}

// awaitHeld waits until //faults:held runs, and returns its processes.
func awaitHeld(t *testing.T) []int {
	t.Helper()
	waitFor(t, "the action to run", func() bool { return len(heldProcesses(t)) > 0 })
	return heldProcesses(t)
}

// heldProcesses are the ones that sleep, not the shells that start them.
func heldProcesses(t *testing.T) []int {
	t.Helper()
	var pids []int
	for _, pid := range processIDs(t, held) {
		line, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
		if err == nil && bytes.HasPrefix(line, []byte(held)) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// containers are the IDs of the server's containers.
func (h *hearth) containers(t *testing.T) []string {
	t.Helper()
	out, err := exec.Command("podman", "ps", "--all", "--quiet", "--no-trunc", "--filter=label=build.hearth.data-dir="+h.dataDir).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(out))
}

// running is how many actions the server runs.
func (h *hearth) running(t *testing.T) int {
	t.Helper()
	resp, err := http.Get(h.console + "/status.json")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var status struct{ Load struct{ Running, Queued int } }
	if err := json.NewDecoder(resp.Body).Decode(&status); err != nil {
		t.Fatal(err)
	}
	return status.Load.Running + status.Load.Queued
}

// REAPI F40, F58: the action runs again in another container.
func (f *faults) runnerIsKilled(t *testing.T) {
	build := f.start(t, "build", "//faults:held")
	first := awaitHeld(t)
	for _, id := range f.h.containers(t) {
		if out, err := exec.Command("podman", "kill", "--signal=KILL", id).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	waitFor(t, "the action to run again", func() bool {
		now := heldProcesses(t)
		return len(now) > 0 && !slices.Equal(now, first)
	})
	kill(t, heldProcesses(t), syscall.SIGTERM)
	if ran := build.want(t, 0).processes(t); ran["remote"] != 1 {
		t.Errorf("processes: %v, want one remote", ran)
	}
}

// REAPI F40: what runs goes on, and new containers are made by the next service.
func (f *faults) podmanServiceIsKilled(t *testing.T) {
	build := f.start(t, "build", "//faults:held", "//faults:fresh0", "//faults:fresh1", "//faults:fresh2", "//faults:fresh3")
	pids := awaitHeld(t)
	service := processIDs(t, f.h.dataDir+"/podman/podman.sock")
	if len(service) != 1 {
		t.Fatalf("the processes of the podman service are %v, want one", service)
	}
	kill(t, service, syscall.SIGKILL)
	waitFor(t, "another podman service", func() bool {
		now := processIDs(t, f.h.dataDir+"/podman/podman.sock")
		return len(now) == 1 && now[0] != service[0]
	})
	kill(t, pids, syscall.SIGTERM)
	if ran := build.want(t, 0).processes(t); ran["remote"] != 5 {
		t.Errorf("processes: %v, want 5 remote", ran)
	}
}

// REAPI F45, F60, F61, C20: Bazel uploads what went missing after it had asked,
// while its action waited for a slot.
func (f *faults) inputIsEvicted(t *testing.T) {
	data := bytes.Repeat([]byte("a blob that is a file of the store\n"), 100_000)
	if err := os.WriteFile(filepath.Join(f.c.workspace, "faults/large.bin"), data, 0o644); err != nil {
		t.Fatal(err)
	}
	release := f.occupy(t, 2)
	build := f.start(t, "build", "//faults:reads_large")
	waitFor(t, "the action to be queued", func() bool { return f.h.running(t) == 3 })
	digest, _, _ := strings.Cut(sha256Of(t, filepath.Join(f.c.workspace, "faults/large.bin")), "/")
	if n := f.h.loseBlob(t, digest); n == 0 {
		t.Fatal("the server has no file of the blob")
	}
	release()
	if ran := build.want(t, 0).processes(t); ran["remote"] != 1 {
		t.Errorf("processes: %v, want one remote", ran)
	}
	if got := f.c.read(t, "bazel-bin/faults/reads_large.txt"); got != strconv.Itoa(len(data))+"\n" {
		t.Errorf("the action read %s bytes, want %d", got, len(data))
	}
}

// loseBlob removes the files of a blob from the store, as a disk that breaks does.
func (h *hearth) loseBlob(t *testing.T, hash string) int {
	t.Helper()
	n := 0
	err := filepath.WalkDir(filepath.Join(h.dataDir, "store"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasPrefix(d.Name(), hash) {
			n++
			return os.Remove(path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// occupy takes so many of the server's slots, until release is called.
func (f *faults) occupy(t *testing.T, slots int) (release func()) {
	t.Helper()
	const seconds = "301.25" // tells these processes from all others
	args := []string{
		"bench", "nop", "--endpoint=" + f.h.endpoint(t), "--warmup=0", "--count=" + strconv.Itoa(slots), "--concurrency=" + strconv.Itoa(slots),
		"--command=/bin/sleep," + seconds, "--property=recycle-runner=true",
	}
	cmd := exec.Command("../bin/hearth", args...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	release = func() {
		kill(t, sleeping(t, seconds), syscall.SIGTERM)
		_ = cmd.Wait() // the bench does not like how its actions end
	}
	waitFor(t, "the slots to be taken", func() bool { return len(sleeping(t, seconds)) == slots })
	return release
}

func sleeping(t *testing.T, seconds string) []int {
	t.Helper()
	return processIDs(t, "/bin/sleep\x00"+seconds)
}

func (f *faults) fiveHundredDaemons(t *testing.T) {
	const seconds = "302.5" // that the daemons sleep
	build := f.start(t, "build", "//faults:daemons")
	if r := build.want(t, 0); r.elapsed > 302*time.Second {
		t.Errorf("the build took %v: it waited for the daemons", r.elapsed)
	}
	if left := processesWith(t, "sleep\x00"+seconds); len(left) > 0 {
		t.Errorf("the action is over, but left %d processes, such as %q", len(left), left[0])
	}
}

// A full /tmp is the action's own affair, and gone with it.
func (f *faults) tmpIsFull(t *testing.T) {
	f.start(t, "build", "//faults:fills_tmp").want(t, 1, "No space left on device")
	f.start(t, "build", "//faults:finds_tmp_empty").want(t, 0)
	if got := f.c.read(t, "bazel-bin/faults/finds_tmp_empty.txt"); got != "" {
		t.Errorf("another action found %q in /tmp", got)
	}
}

// The one action that wants too much memory is told so, and another that runs
// beside it goes on. Its runner is not used again.
func (f *faults) outOfMemory(t *testing.T) {
	build := f.start(t, "build", "--keep_going", "//faults:eats", "//faults:held")
	pids := awaitHeld(t)
	waitFor(t, "the action to be out of memory", func() bool {
		last := f.h.actions(t, "--limit=1")
		return len(last) == 1 && last[0].Target == "//faults:eats" && last[0].ExitCode != 0
	})
	kill(t, pids, syscall.SIGTERM)
	r := build.want(t, 1, "Out of memory (OOM)", "the limit is 512MiB")
	if ran := r.processes(t); ran["remote"] != 1 { // Bazel does not count the one that failed
		t.Errorf("processes: %v, want one remote", ran)
	}
	if got := f.c.read(t, "bazel-bin/faults/held.txt"); got != "released\n" {
		t.Errorf("the action beside it made %q", got)
	}
	_, rest, _ := strings.Cut(r.output, ", in runner ")
	runner, _, ok := strings.Cut(rest, " ")
	if !ok {
		t.Fatal("no runner is named")
	}
	waitFor(t, "the runner to be removed", func() bool {
		_, err := os.Stat(filepath.Join(f.h.dataDir, "runners", runner))
		return errors.Is(err, fs.ErrNotExist)
	})
}

// REAPI F63, F64: 1 GiB of output goes into the storage, and not through memory.
func (f *faults) printsMuch(t *testing.T) {
	pid := strconv.Itoa(f.h.cmd.Process.Pid)
	if err := os.WriteFile("/proc/"+pid+"/clear_refs", []byte("5"), 0); err != nil { // forgets the peak
		t.Fatal(err)
	}
	before := statusKiB(t, pid, "VmHWM:")
	f.start(t, "build", "//faults:prints").want(t, 0)
	after := statusKiB(t, pid, "VmHWM:")
	t.Logf("the peak of hearth's resident memory went from %d to %d KiB", before, after)
	if after > before+100<<10 {
		t.Errorf("the peak of hearth's resident memory went from %d to %d KiB", before, after)
	}
	last := f.h.lastAction(t)
	out := runProgram(t, "", "sh", "-c", "../bin/hearth actions logs "+last.Digest+" --console="+f.h.console+" --endpoint="+f.h.endpoint(t)+" | sha256sum")
	want := runProgram(t, "", "sh", "-c", "yes 'a line of thirty-two characters' | head -c 1G | sha256sum")
	if out.stdout != want.stdout {
		t.Errorf("stdout is not what was printed: %s, %s", out.stdout, out.stderr)
	}
}

// REAPI K29, F20: what Bazel cancels since its other branch was faster leaves
// nothing behind. Now and then Bazel never sends the action that is to be cancelled.
func (f *faults) dynamicExecution(t *testing.T) {
	const attempts = 12
	for attempt := 1; ; attempt++ {
		f.race(t, attempt)
		switch cancelled := f.cancelledInVain(t); {
		case cancelled == 1:
			return
		case cancelled > 1:
			t.Fatalf("%d actions were cancelled in vain, want one", cancelled)
		case attempt == attempts:
			t.Fatalf("no action was cancelled in vain in %d builds", attempts)
		}
	}
}

// race builds what Bazel runs locally and on hearth at once.
func (f *faults) race(t *testing.T, attempt int) {
	t.Helper()
	build := f.start(t, "build", "--internal_spawn_scheduler", "--strategy=Genrule=dynamic", "--dynamic_local_strategy=local",
		"--dynamic_remote_strategy=remote", "--dynamic_local_execution_delay=0", "--local_resources=cpu=2",
		fmt.Sprintf("--action_env=ATTEMPT=%d", attempt), "//faults:raced")
	ran := build.want(t, 0).processes(t)
	t.Logf("processes: %v", ran)
	if ran["local"] == 0 || ran["local"]+ran["remote"] != 25 {
		t.Errorf("processes: %v, want 25, and some of them local", ran)
	}
	f.nothingRuns(t)
}

// cancelledInVain counts the actions that ended since they ran locally, too.
func (f *faults) cancelledInVain(t *testing.T) (count int) {
	t.Helper()
	for _, a := range f.h.actions(t) {
		if a.Status == "CANCELLED" && a.Target == "//faults:raced_in_vain" {
			count++
		}
	}
	return count
}

// nothingRuns waits until all actions have ended, and looks for what they left.
func (f *faults) nothingRuns(t *testing.T) {
	t.Helper()
	waitFor(t, "all actions to end", func() bool { return f.h.running(t) == 0 })
	f.h.settle(t)
	for _, dir := range []string{"trash", "spool"} {
		if n := entries(t, filepath.Join(f.h.dataDir, dir)); n > 0 {
			t.Errorf("%d entries are left in %s", n, dir)
		}
	}
	// Where an input root was mounted an empty directory may stay.
	inputs, err := filepath.Glob(filepath.Join(f.h.dataDir, "runners/*/work/*/*"))
	if err != nil || len(inputs) > 0 {
		t.Errorf("inputs are left (%v): %q", err, inputs)
	}
	waitFor(t, "as many containers as runners", func() bool {
		return len(f.h.containers(t)) == entries(t, filepath.Join(f.h.dataDir, "runners"))
	})
	for _, id := range f.h.containers(t) {
		inside := processesIn(t, id)
		if len(inside) == 0 { // its runner was given up, and its processes go first
			waitFor(t, "a container without processes to go", func() bool { return !slices.Contains(f.h.containers(t), id) })
		} else if len(inside) != 1 || !strings.Contains(inside[0], "execserver") {
			t.Errorf("in container %s there are %q, want the exec server alone", id, inside)
		}
	}
}

// processesIn are the command lines of the processes in the cgroups of a container.
func processesIn(t *testing.T, id string) []string {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, name := range files {
		cgroups, err := os.ReadFile(name)
		if err != nil || !bytes.Contains(cgroups, []byte("libpod-"+id)) {
			continue
		}
		if line, err := os.ReadFile(filepath.Join(filepath.Dir(name), "cmdline")); err == nil {
			found = append(found, string(line))
		}
	}
	return found
}

// REAPI F20, K28: an action whose client is gone ends after the grace, and not before.
func (f *faults) clientIsKilled(t *testing.T) {
	server := strings.TrimSpace(f.c.want(t, 0, []string{"info", "server_pid"}).output)
	server = server[strings.LastIndexByte(server, '\n')+1:]
	pid, err := strconv.Atoi(server)
	if err != nil {
		t.Fatal(err)
	}
	build := f.start(t, "build", "//faults:held")
	awaitHeld(t)
	begin := time.Now()
	kill(t, []int{pid}, syscall.SIGKILL)
	<-build.ended
	waitFor(t, "the action to end", func() bool { return len(heldProcesses(t)) == 0 })
	if took := time.Since(begin); took < orphanGrace || took > orphanGrace+20*time.Second {
		t.Errorf("the action went on for %v after its client was killed, want %v", took, orphanGrace)
	}
	f.nothingRuns(t)
}

// TestServerIsRestarted: Bazel goes on with the next hearth on the same address
// and data directory. REAPI F12, F21, K3
func TestServerIsRestarted(t *testing.T) {
	dataDir := filepath.Join(shortTempDir(t), "data")
	h := startHearthOn(t, sidRoot(t), dataDir)
	f := &faults{h: h, c: newBazel7(t, h)}
	f.c.want(t, 0, []string{"build", "//genrules:left"})
	address := strings.TrimPrefix(h.endpoint(t), "grpc://")
	again := exec.Command(program(t), append(serveArgs(sidRoot(t), dataDir), "--listen="+address)...)
	// By itself Bazel tries for 3 s, in which a busy machine may not start a server. What
	// was stored in the last milliseconds may be lost, for which it has a flag as well.
	build := f.start(t, "build", "--remote_retries=20", "--experimental_remote_cache_eviction_retries=3",
		"//faults:held", "//genrules:joined")
	awaitHeld(t)
	h.kill(t)
	startCommand(t, dataDir, again)
	kill(t, awaitHeld(t), syscall.SIGTERM)
	if ran := build.want(t, 0).processes(t); ran["remote"] == 0 {
		t.Errorf("processes: %v, want some remote", ran)
	}
}
