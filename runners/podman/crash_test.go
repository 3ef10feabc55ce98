package podman_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hearth-build/hearth/runners"
	"github.com/hearth-build/hearth/runners/podman"
)

// crashHelper is a hearth that is going to be killed: it leaves an idle runner,
// a busy one with a mount in its directory, and a frozen one.
func crashHelper() {
	if err := leaveRunners(context.Background(), os.Getenv(envHelper)); err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	fmt.Println("ready")
	select {}
}

func leaveRunners(ctx context.Context, dataDir string) error {
	b, err := podman.Open(ctx, options(dataDir))
	if err != nil {
		return err
	}
	image, err := b.Resolve(ctx, runners.ImageRef{Name: runners.HostImage})
	if err != nil {
		return err
	}
	for i := range 3 {
		spec := runners.Spec{ID: fmt.Sprintf("hearth-crash-%d-%d", os.Getpid(), i), Image: image, Network: runners.NetworkOff}
		spec.Dir = filepath.Join(b.RunnersDir(), spec.ID)
		if err := os.Mkdir(spec.Dir, 0o700); err != nil {
			return err
		}
		in, err := b.Start(ctx, spec)
		if err != nil {
			return err
		}
		work := filepath.Join(spec.Dir, runners.WorkDirName)
		switch i {
		case 1:
			err = errors.Join(unix.Mount("tmpfs", work, "tmpfs", 0, ""), os.WriteFile(filepath.Join(work, "file"), nil, 0o600))
			go func() { _, _ = in.Run(ctx, asRoot("sleep 3600"), os.Stdout, os.Stderr) }()
		case 2:
			err = in.Freeze(ctx)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// TestCrash: after kill -9 of a hearth, the next one removes all that it left.
func TestCrash(t *testing.T) {
	dataDir := t.TempDir()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), envHelper+"="+dataDir)
	cmd.Stderr = t.Output()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	service := servicePID(t, dataDir)
	if line != "ready\n" {
		t.Errorf("the helper said %q: %v", line, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait() // of a signal
	other := open(t, options(t.TempDir()))
	spared := start(t, other, runners.HostImage)

	b := open(t, options(dataDir))
	await(t, "the service of the killed hearth has ended", func() bool { return !alive(service) })
	if n, err := other.Sweep(ctx(t)); n != 0 || err != nil {
		t.Errorf("a sweep with another data directory: %d %v", n, err)
	}
	if n, err := b.Sweep(ctx(t)); n != 3 || err != nil {
		t.Errorf("sweep: %d %v", n, err)
	}
	spared.run(shell("true"))
	if left := mountsBelow(t, dataDir); len(left) > 0 {
		t.Errorf("mounts: %q", left)
	}
	if entries, err := os.ReadDir(b.RunnersDir()); len(entries) > 0 || err != nil {
		t.Errorf("directories: %v %v", entries, err)
	}
	if left := containersOf(t, dataDir); left != "" {
		t.Errorf("containers: %s", left)
	}
	if left := processesOf(t, dataDir); len(left) != 1 || !strings.Contains(left[0], "podman system service") {
		t.Errorf("processes: %q", left)
	}
}

// servicePID reads which service a hearth started.
func servicePID(t *testing.T, dataDir string) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dataDir, "podman", "service.json"))
	if err != nil {
		t.Fatal(err)
	}
	var service struct{ PID int }
	if err := json.Unmarshal(text, &service); err != nil || service.PID == 0 {
		t.Fatalf("%s: %v", text, err)
	}
	return service.PID
}

func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

// containersOf lists the containers of a data directory.
func containersOf(t *testing.T, dataDir string) string {
	t.Helper()
	out, err := exec.Command("podman", "ps", "--all", "--filter", "label=build.hearth.data-dir="+dataDir, "--format", "{{.Names}} {{.Status}}").Output()
	if err != nil {
		t.Fatalf("podman ps: %v", err)
	}
	return string(out)
}

// processesOf lists the processes that name a data directory in their arguments.
func processesOf(t *testing.T, dataDir string) []string {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, f := range files {
		line, err := os.ReadFile(f)
		if err == nil && strings.Contains(string(line), dataDir) {
			found = append(found, strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return found
}

// TestPidFileNamesAnother: the process id of a crashed hearth's service is
// another program's by now, which must not suffer.
func TestPidFileNamesAnother(t *testing.T) {
	dataDir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dataDir, "podman"), 0o700); err != nil {
		t.Fatal(err)
	}
	innocent := exec.Command("sleep", "3600")
	if err := innocent.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = innocent.Process.Kill(); _ = innocent.Wait() })
	for _, text := range []string{fmt.Sprintf(`{"pid":%d,"start":1,"boot":"x"}`, innocent.Process.Pid), `{"pid":`} {
		if err := os.WriteFile(filepath.Join(dataDir, "podman", "service.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		closeBackend(t, open(t, options(dataDir)))
		if !alive(innocent.Process.Pid) {
			t.Fatalf("%s: it was killed", text)
		}
	}
}
