package e2e_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// ordinary is a user who has nothing but IDs in /etc/subuid and /etc/subgid. They are
// there in a mount namespace alone, so that no user is made on this machine.
type ordinary struct {
	uid   int
	home  string
	files map[string]string // copies of files in /etc that have the user, by their names
}

const (
	ordinaryName    = "hearth-e2e"
	ordinaryUID     = 64123
	ordinaryFirstID = 1 << 24
)

// newOrdinary makes a user, of whom no process must be left when the test ends.
func newOrdinary(t *testing.T) *ordinary {
	t.Helper()
	u := &ordinary{uid: ordinaryUID, home: filepath.Join(shortTempDir(t), "home"), files: map[string]string{}}
	ids := fmt.Sprintf("%s:%d:65536\n", ordinaryName, ordinaryFirstID)
	for name, line := range map[string]string{
		"passwd": fmt.Sprintf("%s:x:%d:%d::%s:/bin/sh\n", ordinaryName, u.uid, u.uid, u.home),
		"group":  fmt.Sprintf("%s:x:%d:\n", ordinaryName, u.uid),
		"subuid": ids, "subgid": ids,
	} {
		before, err := os.ReadFile(filepath.Join("/etc", name))
		if err != nil {
			t.Fatal(err)
		}
		u.files[name] = filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(u.files[name], append(before, line...), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if left := processesOf(t, u.uid); len(left) > 0 {
			t.Errorf("processes of the user are left:\n%s", strings.Join(left, "\n"))
		}
	})
	for _, dir := range []string{u.home, u.runtimeDir(), u.programs()} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(dir, u.uid, u.uid); err != nil {
			t.Fatal(err)
		}
	}
	// Directories above it may be root's alone.
	for dir := filepath.Dir(u.home); dir != "/" && dir != os.TempDir(); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"hearth", "hearth-execserver"} {
		text, err := os.ReadFile(filepath.Join(filepath.Dir(program(t)), name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(u.programs(), name), text, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return u
}

func (u *ordinary) runtimeDir() string { return filepath.Join(u.home, "run") }
func (u *ordinary) programs() string   { return filepath.Join(u.home, "bin") }
func (u *ordinary) dataDir() string    { return filepath.Join(u.home, "data") }

// command is one of hearth's, as the user starts it.
func (u *ordinary) command(args ...string) *exec.Cmd {
	script := ""
	for name, file := range u.files {
		script += fmt.Sprintf("mount --bind %s /etc/%s && ", file, name)
	}
	script += `exec setpriv --reuid=$1 --regid=$1 --clear-groups --inh-caps=-all "$2/hearth" "${@:3}"`
	all := append([]string{"-m", "--propagation=private", "bash", "-c", script, "bash", fmt.Sprint(u.uid), u.programs()}, args...)
	cmd := exec.Command("unshare", all...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + u.home, "XDG_RUNTIME_DIR=" + u.runtimeDir(), "USER=" + ordinaryName}
	return cmd
}

// serve starts a server as the user.
func (u *ordinary) serve(t *testing.T, flags ...string) *hearth {
	t.Helper()
	return startCommand(t, u.dataDir(), u.command(append(serveArgs("/", u.dataDir()), flags...)...))
}

// processesOf is the command lines of the processes that belong to a user, or to the
// IDs that the user was given.
func processesOf(t *testing.T, uid int) []string {
	t.Helper()
	entries, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, dir := range entries {
		info, err := os.Stat(dir)
		if err != nil {
			continue // it has ended
		}
		owner := int(info.Sys().(*syscall.Stat_t).Uid)
		if owner != uid && (owner < ordinaryFirstID || owner >= ordinaryFirstID+65536) {
			continue
		}
		line, err := os.ReadFile(filepath.Join(dir, "cmdline"))
		if err == nil && len(line) > 0 { // else it is dead, and waited for by somebody
			found = append(found, filepath.Base(dir)+" "+strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return found
}

// TestOrdinaryUser: hearth builds and tests as the user that starts it, without root's
// help.
func TestOrdinaryUser(t *testing.T) {
	runAll(t, newBazel4(t, newOrdinary(t).serve(t)))
}

// TestOrdinaryUserIsKilled: what a killed hearth leaves, in a namespace that nobody can
// enter any more, is removed by the next one.
func TestOrdinaryUserIsKilled(t *testing.T) {
	const endless = "hearth-e2e-endless"
	u := newOrdinary(t)
	first := u.serve(t)
	c := newBazel4(t, first)
	c.want(t, 0, []string{"build", "//genrules/..."})
	ended := make(chan error, 1)
	go func() { // ends with Bazel, which gives up soon after hearth is gone
		_, err := c.exec(t.Context(), "build", "//odd:endless")
		ended <- err
	}()
	waitFor(t, "the action to run", func() bool { return len(processesWith(t, endless)) > 0 })
	first.killed = true
	for _, process := range processesOf(t, u.uid) {
		var pid int
		if _, err := fmt.Sscan(process, &pid); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(process, "/hearth serve ") {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Error(err)
			}
		}
	}
	<-first.done
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	second := u.serve(t)
	c.use(t, second)
	c.want(t, 0, []string{"build", "//cc/..."})
	if left := processesWith(t, endless); len(left) > 0 {
		t.Errorf("the killed hearth's action still runs: %q", left)
	}
	// This ends the process that was started, and with it the one in the namespace.
	second.kill(t)
	waitFor(t, "all of it to end", func() bool { return len(processesOf(t, u.uid)) == 0 })
}

// TestOrdinaryUserLacksIDs: what a user reads who has none.
func TestOrdinaryUserLacksIDs(t *testing.T) {
	u := newOrdinary(t)
	delete(u.files, "subuid")
	out, err := u.command("serve", "--data-dir="+u.dataDir()).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "usermod --add-subuids") {
		t.Errorf("serve: %v: %s", err, out)
	}
	// All that can be checked without them is checked.
	out, err = u.command("doctor", "--data-dir="+u.dataDir()).CombinedOutput()
	for _, want := range []string{"usermod --add-subuids", "podman", "kernel"} {
		if err == nil || !strings.Contains(string(out), want) {
			t.Errorf("doctor: %v, want %q: %s", err, want, out)
		}
	}
}
