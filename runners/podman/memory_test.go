package podman_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hearth-build/hearth/runners"
	"github.com/hearth-build/hearth/runners/podman"
)

const smallMemory = 96 << 20

// limited is a Backend whose runners may use little memory. It is nil where the
// host cannot limit it.
func limited(t *testing.T) *podman.Backend {
	t.Helper()
	opts := options(t.TempDir())
	opts.Memory = smallMemory
	for _, f := range podman.Probe(ctx(t), opts) {
		if f.Name == "memory" && strings.Contains(f.Detail, "no memory controller") {
			return nil
		}
	}
	return open(t, opts)
}

// hungry keeps a line that it has not seen the end of.
const hungry = "head -c 500000000 /dev/zero | tail"

// result runs a command that is started.
func (r *runner) result(cmd runners.Command) runners.Result {
	r.t.Helper()
	res, err := r.Run(ctx(r.t), cmd, io.Discard, io.Discard)
	if err != nil {
		r.t.Fatalf("run %q: %v", cmd.Args, err)
	}
	return res
}

// TestMemoryRunsOut: who wants more than a runner may have is killed, which
// shows in the result; the runner itself, and others, go on.
func TestMemoryRunsOut(t *testing.T) {
	b := limited(t)
	if b == nil {
		return
	}
	r, other := start(t, b, runners.HostImage), start(t, b, runners.HostImage)
	before := r.result(shell("true"))
	if m := before.Memory; m.Kills != 0 || m.Limit != smallMemory || m.Peak <= 0 || m.Peak > smallMemory/2 {
		t.Errorf("a command that needs little: %+v", m)
	}
	stop := make(chan runners.Result)
	go func() {
		res, err := other.Run(ctx(t), shell("i=0; while [ $i -lt 100 ]; do sleep 0.02; i=$((i+1)); done; exit 5"), io.Discard, io.Discard)
		if err != nil {
			t.Error(err)
		}
		stop <- res
	}()
	res := r.result(shell(hungry))
	if m := res.Memory; m.Kills < 1 || m.Limit != smallMemory || m.Peak < smallMemory*9/10 || m.Peak > smallMemory {
		t.Errorf("a command that wants too much: %+v", m)
	}
	if res := <-stop; res.ExitCode != 5 || res.Signal != 0 || res.Memory.Kills != 0 {
		t.Errorf("a command in another runner: %+v", res)
	}
	if m := r.result(shell("true")).Memory; m.Kills != 0 || m.Peak <= 0 || m.Peak > smallMemory/2 {
		t.Errorf("the next command: %+v", m)
	}
}

// small is a process of which many together want too much.
const small = "sh -c 'x=$(head -c 2000000 /dev/zero | tr \"\\0\" x); sleep 1000' & "

// TestManySmallProcesses: the kernel does not choose the exec server, although
// it is the largest process of all.
func TestManySmallProcesses(t *testing.T) {
	b := limited(t)
	if b == nil {
		return
	}
	r := start(t, b, runners.HostImage)
	cmd := shell("i=0; while [ $i -lt 200 ]; do " + small + "i=$((i+1)); done; wait")
	cmd.Timeout = 20 * time.Second // it has no end
	if res := r.result(cmd); res.Memory.Kills < 1 {
		t.Errorf("%+v", res)
	}
	if res := r.result(shell("exit 3")); res.ExitCode != 3 {
		t.Errorf("the next command: %+v", res)
	}
}

// touch is a file that is there once something was written.
type touch string

// Write implements io.Writer.
func (file touch) Write(p []byte) (int, error) {
	return len(p), os.WriteFile(string(file), nil, 0o644)
}

// TestServerRunsOutOfMemory: an action can see to it that the kernel chooses the
// exec server. Then all is over, and still it is known why, and what had arrived
// by then is kept.
func TestServerRunsOutOfMemory(t *testing.T) {
	b := limited(t)
	if b == nil {
		return
	}
	r := start(t, b, runners.HostImage)
	// What an action printed while the exec server had no turn is lost with it, so this
	// one waits until its line is here.
	cmd := shell("echo begun; until [ -e arrived ]; do sleep 0.01; done; " +
		"echo 0 > /proc/self/oom_score_adj; i=0; while [ $i -lt 200 ]; do " + small + "i=$((i+1)); done; wait")
	cmd.Dir = runners.ContainerWorkDir
	var stdout strings.Builder
	res, err := r.Run(ctx(t), cmd, io.MultiWriter(&stdout, touch(r.work("arrived"))), io.Discard)
	if err != nil || res.Memory.Kills < 1 || res.Signal != syscall.SIGKILL || res.Duration <= 0 || stdout.String() != "begun\n" {
		t.Errorf("%+v %v, printed %q", res, err, stdout.String())
	}
	if _, err := r.Run(ctx(t), shell("true"), io.Discard, io.Discard); err == nil || errors.Is(err, runners.ErrImage) {
		t.Errorf("the next command: %v", err)
	}
}

// TestFullTmp: who fills a file system in memory hears so, and nobody is killed.
func TestFullTmp(t *testing.T) {
	b := limited(t)
	if b == nil {
		return
	}
	r := start(t, b, runners.HostImage)
	for _, dir := range []string{"/tmp", "/var/tmp", "/dev/shm"} {
		var stderr strings.Builder
		res, err := r.Run(ctx(t), shell("cat /dev/zero > "+dir+"/full"), io.Discard, &stderr)
		if err != nil || res.ExitCode == 0 || res.Memory.Kills != 0 || !strings.Contains(stderr.String(), "No space left") {
			t.Errorf("%s: %+v %v %q", dir, res, err, stderr.String())
		}
	}
	all := "for d in /tmp /var/tmp /dev/shm; do cat /dev/zero > $d/full; done; exit 4"
	if res := r.result(shell(all)); res.ExitCode != 4 || res.Memory.Kills != 0 {
		t.Errorf("all together: %+v", res)
	}
	if out := r.run(shell("ls /tmp /var/tmp /dev/shm; df -B1 --output=avail /tmp | tail -n 1")); !strings.Contains(out, "50331648") {
		t.Errorf("afterwards: %q", out)
	}
}

// TestMeter: the files of cgroup version 2, of which hosts with version 1 as
// well have no memory and no io.
func TestMeter(t *testing.T) {
	dir := t.TempDir()
	set := func(files map[string]string) {
		t.Helper()
		for name, content := range files {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	set(map[string]string{
		"memory.events": "low 0\nhigh 0\nmax 7\noom 1\noom_kill 2\noom_group_kill 0\n", "memory.peak": "500\n", "memory.max": "1000\n",
		"io.stat": "8:0 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=9 dios=9\n",
	})
	m, err := podman.NewMeter(dir, true)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close(t)
	m.Begin(t)
	set(map[string]string{
		"memory.events": "low 0\nhigh 0\nmax 9\noom 2\noom_kill 5\noom_group_kill 0\n", "memory.peak": "700\n",
		"io.stat": "8:0 rbytes=5000 wbytes=100 rios=3 wios=4 dbytes=9 dios=9\n259:1 rbytes=1000 wbytes=10 rios=1 wios=1\n",
	})
	got := m.End(t)
	if got.Memory != (runners.Memory{Peak: 700, Limit: 1000, Kills: 5}) || got.Disk != (runners.Disk{ReadBytes: 6000, WrittenBytes: 110, Reads: 4, Writes: 5}) {
		t.Errorf("the first command: %+v %+v", got.Memory, got.Disk)
	}
	m.Begin(t)
	set(map[string]string{"memory.peak": "300\n"})
	if got := m.End(t); got.Memory != (runners.Memory{Peak: 300, Limit: 1000}) || got.Disk != (runners.Disk{}) {
		t.Errorf("the second command: %+v %+v", got.Memory, got.Disk)
	}
}

// TestMeterOfLittle: a host that tells little, and has no limit.
func TestMeterOfLittle(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{"memory.events": "oom_kill 0\n", "memory.max": "max\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	m, err := podman.NewMeter(dir, true)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close(t)
	m.Begin(t)
	if got := m.End(t); got.Memory != (runners.Memory{}) || got.Disk != (runners.Disk{}) {
		t.Errorf("%+v %+v", got.Memory, got.Disk)
	}
}
