package e2e_test

import (
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
)

// What actions that mean harm come to: see the program in e2e/hostile.

// victim is a server with a client that runs hostile actions on it.
type victim struct {
	*caller
	h    *hearth
	root *repb.Digest // the input root of all of them
	// user are the properties that say as whom they run.
	user []string
	mode string // how input roots are made, or what the containers are
	// planted is what is on the host, and none of theirs.
	planted []string
}

// hostileProcesses is how many processes a runner may have in these tests.
const hostileProcesses = 300

// TestHostileActions: whatever an action does, the store, the host and the next
// action in the same container are as if it had not been.
func TestHostileActions(t *testing.T) {
	attacker := buildAttacker(t)
	secret, socket := plant(t)
	for _, mode := range []string{"mount", "copy", "ordinary user", "user namespace"} {
		t.Run(mode, func(t *testing.T) {
			h := startHostile(t, mode)
			c := newCaller(t, h)
			files := inputs()
			files["run"] = string(attacker)
			root := c.tree(files)
			for _, user := range []string{"nobody", "root"} {
				v := &victim{caller: c, h: h, root: root, user: []string{"recycle-runner"}, mode: mode, planted: []string{secret, socket}}
				if user == "root" {
					v.user = append(v.user, "dockerRunAsRoot")
				}
				t.Run(user, v.attack)
				t.Run(user+"/Neighbours", v.neighbours)
				v.noTrace(t)
			}
			c.holdsAll(files)
		})
	}
}

// startHostile starts a server that makes input roots in one way, or one of an ordinary
// user's, who has but one, or one whose containers are of an image, in user namespaces.
func startHostile(t *testing.T, mode string) *hearth {
	t.Helper()
	flags := []string{"--slots=2", "--orphan-grace=100ms", "--runner-memory=512MiB", "--runner-cpus=2", fmt.Sprint("--runner-processes=", hostileProcesses)}
	if mode == "ordinary user" {
		return newOrdinary(t).serve(t, flags...)
	}
	if mode == "user namespace" {
		flags = append(flags, "--user-namespaces=on", "--default-property=container-image=docker://"+importSmallImage(t))
		mode = "mount"
	}
	return startHearthOn(t, "/", filepath.Join(shortTempDir(t), "data"), append(flags, "--input-roots="+mode)...)
}

// importSmallImage makes an image that has a shell and the usual commands.
func importSmallImage(t *testing.T) (name string) {
	t.Helper()
	dir := t.TempDir()
	name = "localhost/hearth-test-" + strings.ToLower(rand.Text())
	script := `set -e
mkdir -p "$0/bin" "$0/etc"
cp /bin/busybox "$0/bin/"
for command in $(busybox --list); do [ "$command" = busybox ] || ln -s busybox "$0/bin/$command"; done
echo root:x:0:0::/:/bin/sh > "$0/etc/passwd"
tar -C "$0" -c bin etc | podman import --quiet - "$1"`
	if out, err := exec.Command("/bin/sh", "-c", script, dir, name).CombinedOutput(); err != nil {
		t.Fatalf("make an image, which takes busybox-static and podman: %v\n%s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("podman", "rmi", name).CombinedOutput(); err != nil {
			t.Errorf("podman rmi: %v\n%s", err, out)
		}
	})
	return name
}

// buildAttacker builds the program of the hostile actions.
func buildAttacker(t *testing.T) []byte {
	t.Helper()
	name := filepath.Join(t.TempDir(), "hostile")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", name, "./hostile")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	attacker, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return attacker
}

// holdsAll checks that the store has every input as it was.
func (c *caller) holdsAll(files map[string]string) {
	c.t.Helper()
	for _, text := range files {
		if text != "" && c.read(digestOf([]byte(text))) != text {
			c.t.Errorf("the store has lost an input: %.20q", text)
		}
	}
}

// outcome is what came of an action that may fail.
type outcome struct {
	exit int32
	// printed is what it printed, or what the server says if it did not run.
	printed string
	result  *repb.ActionResult
}

// does runs an action, whatever becomes of it.
func (v *victim) does(t *testing.T, script string, outputs ...string) outcome {
	t.Helper()
	stream, err := v.start(t.Context(), v.root, slices.Clone(v.user), script, outputs...)
	resp := &repb.ExecuteResponse{}
	for done := false; err == nil && !done; {
		op, rerr := stream.Recv()
		if err = rerr; err == nil && op.GetDone() {
			done, err = true, op.GetResponse().UnmarshalTo(resp)
		}
	}
	if err != nil {
		t.Fatalf("%s: %v", script, err)
	}
	o := outcome{exit: resp.GetResult().GetExitCode(), result: resp.GetResult(), printed: resp.GetStatus().GetMessage()}
	for _, part := range []struct {
		raw    []byte
		digest *repb.Digest
	}{{o.result.GetStdoutRaw(), o.result.GetStdoutDigest()}, {o.result.GetStderrRaw(), o.result.GetStderrDigest()}} {
		o.printed += string(part.raw)
		if len(part.raw) == 0 && part.digest.GetSizeBytes() > 0 {
			o.printed += v.read(part.digest)
		}
	}
	return o
}

// look is what an action sees, in lines that are sorted, and which runner it is in.
func (v *victim) look(t *testing.T) (seen []string, runner string) {
	t.Helper()
	o := v.does(t, "umask 077; exec ./run look")
	if o.exit != 0 || o.printed == "" {
		t.Fatalf("looking around: exit code %d\n%s", o.exit, o.printed)
	}
	lines := slices.Collect(strings.Lines(o.printed))
	runner, seen = lines[0], lines[1:]
	slices.Sort(seen)
	return seen, runner
}

// attack does all there is to be done as one user.
func (v *victim) attack(t *testing.T) {
	before, runner := v.look(t)
	for _, a := range v.attacks() {
		t.Run(a.name, func(t *testing.T) {
			o := v.does(t, a.script, a.outputs...)
			if testing.Verbose() {
				t.Logf("exit code %d of %s:\n%s", o.exit, a.script, o.printed)
			}
			a.check(t, o)
			after, next := v.look(t)
			compare(t, before, after)
			if burnt := next != runner; burnt != a.burns {
				t.Errorf("the runner was given up: %v, want %v", burnt, a.burns)
			}
			runner = next
		})
	}
}

// compare tells what the second look saw and the first did not, and the other way
// round.
func compare(t *testing.T, before, after []string) {
	t.Helper()
	for _, line := range after {
		if i, found := slices.BinarySearch(before, line); found {
			before = slices.Delete(slices.Clone(before), i, i+1)
		} else {
			t.Errorf("the next action sees this, which was not there before: %s", line)
		}
	}
	for _, line := range before {
		t.Errorf("the next action does not see this, which was there before: %s", line)
	}
}

// attack is one hostile action.
type attack struct {
	name    string
	script  string
	outputs []string
	// burns: the runner is given up.
	burns bool
	check func(t *testing.T, o outcome)
}

func (v *victim) attacks() []attack {
	confined := "exec ./run confined " + strings.Join(v.offLimits(), " ")
	root := len(v.user) > 1
	all := []attack{
		{name: "Confined", script: confined, check: nothingPossible(100)},
		{name: "ExecServer", script: "exec ./run server", check: nothingPossible(20)},
		{name: "Inputs", script: "exec ./run inputs", check: ends},
		{name: "Leave", script: "exec ./run leave", burns: root, check: ends},
		{name: "KillEverybody", script: "exec ./run server everybody", check: func(*testing.T, outcome) {}},
		{name: "Settings", script: "exec ./run server settings", burns: root, check: ends},
		{name: "ForkBomb", script: "exec ./run bomb", check: ends},
	}
	if v.mode != "mount" { // for the rest it does not matter how input roots are made
		return append(all, v.outputsAttacks()...)
	}
	for _, signal := range []syscall.Signal{syscall.SIGQUIT, syscall.SIGKILL, syscall.SIGSEGV, syscall.SIGSTOP, syscall.SIGUSR1, syscall.SIGTERM} {
		a := attack{name: "Signal " + signal.String(), script: fmt.Sprintf("exec ./run server %d", signal), check: ends}
		if root && signal == syscall.SIGTERM { // by which a host stops a container: its action is lost
			a.burns, a.check = true, func(*testing.T, outcome) {}
		}
		all = append(all, a)
	}
	return append(all, v.outputsAttacks()...)
}

// offLimits is what of the host must be out of reach.
func (v *victim) offLimits() []string {
	return append([]string{
		v.h.dataDir, filepath.Join(v.h.dataDir, "store"), "/root/.bashrc", "/etc/shadow", "/var/lib/containers/storage",
		strings.TrimPrefix(v.h.endpoint(v.t), "grpc://"), strings.TrimPrefix(v.h.console, "http://"),
	}, v.planted...)
}

// ends is for attacks that do what they want, to nobody's harm.
func ends(t *testing.T, o outcome) {
	t.Helper()
	if o.exit != 0 {
		t.Errorf("exit code %d: %s", o.exit, o.printed)
	}
}

// nothingPossible is for attacks that must fail, in so many ways.
func nothingPossible(attempts int) func(t *testing.T, o outcome) {
	return func(t *testing.T, o outcome) {
		t.Helper()
		ends(t, o)
		if n := strings.Count(o.printed, "\n"); n < attempts {
			t.Errorf("it tried only %d things: %s", n, o.printed)
		}
		for line := range strings.Lines(o.printed) {
			if strings.Contains(line, "POSSIBLE") {
				t.Error(strings.TrimSpace(line))
			}
		}
	}
}
