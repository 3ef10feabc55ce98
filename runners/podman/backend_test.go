package podman_test

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/hearth-build/hearth/runners"
	"github.com/hearth-build/hearth/runners/podman"
	"github.com/hearth-build/hearth/runners/runnertest"
)

// TestBackend: what every back end must do. It uses a service as a user starts
// one, which knows nothing of hearth's needs.
func TestBackend(t *testing.T) {
	runtime := "crun"
	if hybrid() {
		runtime = "runc"
	}
	socket := userService(t, userConf(t, runtime))
	var mu sync.Mutex
	dirs, last := map[string]string{}, map[string]*podman.Backend{}
	runnertest.TestBackend(t, func(t *testing.T) runners.Backend {
		mu.Lock()
		defer mu.Unlock()
		if dirs[t.Name()] == "" {
			dirs[t.Name()] = t.TempDir()
		} else {
			closeBackend(t, last[t.Name()]) // the one before is gone
		}
		opts := options(dirs[t.Name()])
		opts.Socket = socket
		last[t.Name()] = open(t, opts)
		return last[t.Name()]
	})
}

// TestServiceThatCannotRunContainers: hearth says so before it takes actions.
func TestServiceThatCannotRunContainers(t *testing.T) {
	opts := options(t.TempDir())
	opts.Socket = userService(t, userConf(t, "crun"))
	b, err := podman.Open(ctx(t), opts)
	if err == nil {
		closeBackend(t, b)
	}
	if !hybrid() {
		if err != nil {
			t.Errorf("crun works with the cgroups of this host: %v", err)
		}
		return
	}
	if !errors.Is(err, runners.ErrBackend) || !strings.Contains(err.Error(), `runtime = "runc"`) {
		t.Errorf("open: %v", err)
	}
}

func TestServiceThatIsNotThere(t *testing.T) {
	opts := options(t.TempDir())
	opts.Socket = "/no/such/socket"
	b, err := podman.Open(ctx(t), opts)
	if err == nil {
		closeBackend(t, b)
	}
	if !errors.Is(err, runners.ErrBackend) || !strings.Contains(err.Error(), "podman system service") {
		t.Errorf("open: %v", err)
	}
	opts = options(t.TempDir())
	opts.Podman = "no-such-podman"
	b, err = podman.Open(ctx(t), opts)
	if err == nil {
		closeBackend(t, b)
	}
	if !errors.Is(err, runners.ErrBackend) || !strings.Contains(err.Error(), "apt-get install podman") || !strings.Contains(err.Error(), "hearth doctor") {
		t.Errorf("open without podman: %v", err)
	}
}

// hybrid tells whether crun refuses this host.
func hybrid() bool {
	_, err := os.Stat("/sys/fs/cgroup/unified/cgroup.procs")
	return err == nil
}

// userConf configures podman as its user might, who has no use for a limit that
// needs the pids controller.
func userConf(t *testing.T, runtime string) (variable string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "containers.conf")
	if err := os.WriteFile(path, []byte("[containers]\npids_limit = 0\n[engine]\nruntime = \""+runtime+"\"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return "CONTAINERS_CONF=" + path
}

// userService is a podman service that is not hearth's.
func userService(t *testing.T, conf ...string) (socket string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "podman-") // short, for a socket's name
	if err != nil {
		t.Fatal(err)
	}
	socket = filepath.Join(dir, "s")
	cmd := exec.Command("podman", "system", "service", "--time=0", "unix://"+socket)
	cmd.Env = append(os.Environ(), conf...)
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatalf("podman is needed: %v", err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Error(err)
		}
		_ = cmd.Wait() // of a signal
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	await(t, "the service listens", func() bool {
		conn, err := net.Dial("unix", socket)
		return err == nil && conn.Close() == nil
	})
	return socket
}

func TestOptionsNameEveryMistake(t *testing.T) {
	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	err := podman.Options{DataDir: "a", ExecServer: script, ExecMode: "b", Socket: "c", HostRoot: "/dev/null"}.Validate()
	if err == nil {
		t.Fatal("no error")
	}
	for _, field := range []string{"DataDir", "ExecServer", "ExecMode", "Socket", "HostRoot"} {
		if !strings.Contains(err.Error(), field) {
			t.Errorf("%s is not named in: %v", field, err)
		}
	}
	err = podman.Options{DataDir: "/x", ExecServer: "/bin/sh"}.Validate()
	if err == nil || !strings.Contains(err.Error(), "CGO_ENABLED=0") {
		t.Errorf("an exec server with a dynamic linker: %v", err)
	}
}

func TestOneHearthPerDataDirectory(t *testing.T) {
	dir := t.TempDir()
	open(t, options(dir))
	b, err := podman.Open(ctx(t), options(dir))
	if err == nil {
		closeBackend(t, b)
		t.Fatal("a second Backend opened the same data directory")
	}
	if !strings.Contains(err.Error(), "another hearth uses this data directory") {
		t.Errorf("%v", err)
	}
}
