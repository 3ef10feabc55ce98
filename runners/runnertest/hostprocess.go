package runnertest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"

	"github.com/hearth-build/hearth/runners"
)

// HostProcess is a Backend for the image runners.HostImage whose runners are
// exec servers in PID namespaces of their own, on the host's own file system.
// It needs root and nothing else. What a container would do besides, it does
// not: ContainerWorkDir is translated in Command.Dir alone, the network is the
// host's, memory is not limited, and mounts that are made below a work
// directory later are not seen inside.
type HostProcess struct {
	dir    string
	server string

	mu        sync.Mutex // guards instances
	instances map[string]*hostInstance
}

var _ runners.Backend = (*HostProcess)(nil)

// NewHostProcess returns a Backend that runs the hearth-execserver program
// server. Sweep looks into dir, where the directories of runners are.
func NewHostProcess(dir, server string) (*HostProcess, error) {
	if os.Getuid() != 0 {
		return nil, errors.New("runnertest: PID namespaces need root: run these tests as root")
	}
	if _, err := os.Stat(server); err != nil {
		return nil, fmt.Errorf("runnertest: the exec server is missing (see BuildExecServer): %w", err)
	}
	return &HostProcess{dir: dir, server: server, instances: map[string]*hostInstance{}}, nil
}

// BuildExecServer builds hearth-execserver into dir and returns its path.
func BuildExecServer(dir string) (string, error) {
	path := filepath.Join(dir, "hearth-execserver")
	cmd := exec.Command("go", "build", "-o", path, "github.com/hearth-build/hearth/cmd/execserver")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build hearth-execserver: %w\n%s", err, out)
	}
	return path, nil
}

// RunnersDir is where the directories of runners are, for TestBackend.
func (h *HostProcess) RunnersDir() string { return h.dir }

// Resolve implements runners.Backend.
func (h *HostProcess) Resolve(_ context.Context, ref runners.ImageRef) (runners.Image, error) {
	if ref.Name != runners.HostImage {
		return runners.Image{}, fmt.Errorf("%w: %s: processes of the host have no image but %q", runners.ErrImage, ref, runners.HostImage)
	}
	return runners.Image{Name: ref.Name, ID: "host-process"}, nil
}

// Start implements runners.Backend. Users other than root must be able to reach
// the work directory: they need to pass through all directories above Spec.Dir.
func (h *HostProcess) Start(ctx context.Context, spec runners.Spec) (runners.Instance, error) {
	in := &hostInstance{id: spec.ID, dir: spec.Dir, exited: make(chan struct{}), forget: h.forget}
	h.mu.Lock()
	h.instances[spec.ID] = in
	h.mu.Unlock()
	if err := in.start(ctx, h.server); err != nil {
		// The caller's context may have ended, and nothing may be left.
		return nil, errors.Join(err, in.Remove(context.WithoutCancel(ctx)), os.RemoveAll(in.workDir()))
	}
	return in, nil
}

func (h *HostProcess) forget(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.instances, id)
}

// Sweep implements runners.Backend.
func (h *HostProcess) Sweep(ctx context.Context) (int, error) {
	files, err := filepath.Glob(filepath.Join(h.dir, "*", pidFile))
	if err != nil {
		return 0, err
	}
	swept := 0
	for _, file := range files {
		dir := filepath.Dir(file)
		h.mu.Lock()
		own := h.instances[filepath.Base(dir)] != nil
		h.mu.Unlock()
		if own {
			continue
		}
		if err := killRecorded(ctx, file); err != nil {
			return swept, fmt.Errorf("sweep %s: %w", dir, err)
		}
		if err := os.RemoveAll(dir); err != nil {
			return swept, err
		}
		swept++
	}
	return swept, nil
}
