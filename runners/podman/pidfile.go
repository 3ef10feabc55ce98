package podman

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// pidFile remembers the service that this data directory's hearth started, for
// the next hearth in case that this one crashes.
type pidFile struct{ path string }

// identity names one process for ever.
type identity struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"`
	Boot  string `json:"boot"`
}

func identify(pid int) (identity, error) {
	start, err := startTime(pid)
	if err != nil {
		return identity{}, err
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return identity{}, err
	}
	return identity{PID: pid, Start: start, Boot: strings.TrimSpace(string(boot))}, nil
}

// write stores the identity of a process. A file that a crash tore counts as none.
func (f pidFile) write(pid int) error {
	id, err := identify(pid)
	if err != nil {
		return fmt.Errorf("identify the podman service: %w", err)
	}
	text, err := json.Marshal(id)
	if err != nil {
		return err
	}
	if err := os.WriteFile(f.path, text, 0o600); err != nil {
		return fmt.Errorf("remember the podman service: %w", err)
	}
	return nil
}

func (f pidFile) remove() error {
	if err := os.Remove(f.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget the podman service: %w", err)
	}
	return nil
}

// kill ends the process that the file names if it is still there.
func (f pidFile) kill(ctx context.Context) (err error) {
	text, err := os.ReadFile(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var was identity
	if json.Unmarshal(text, &was) != nil || was.PID <= 0 {
		return f.remove()
	}
	process, err := openPidfd(was.PID)
	if errors.Is(err, unix.ESRCH) {
		return f.remove()
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, process.close()) }()
	// Whatever is read about the process id now is about the process that the
	// descriptor refers to, or that one is gone and signals reach nobody.
	if is, err := identify(was.PID); err != nil || is != was || !isService(was.PID) {
		return f.remove()
	}
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		if err := process.signal(sig); err != nil {
			return err
		}
		if gone, err := process.ended(ctx, serviceStopTimeout); err != nil || gone {
			return errors.Join(err, f.remove())
		}
	}
	return fmt.Errorf("process %d does not end", was.PID)
}

// isService tells whether a process is a podman service.
func isService(pid int) bool {
	args, err := arguments(pid)
	return err == nil && len(args) > 3 && filepath.Base(args[0]) == "podman" &&
		slices.Equal(args[1:3], []string{"system", "service"})
}
