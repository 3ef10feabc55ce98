package podman

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// endConmons ends the conmon processes that watch over nothing any more: those
// of containers that were removed, by ID, and those of this data directory's
// runners that are not there. Most have ended by themselves.
func (b *Backend) endConmons(ctx context.Context, containerIDs ...string) error {
	idle := func(args []string) bool { return b.isIdleConmon(args, containerIDs) }
	// A conmon begins with forking itself: only a look that finds none is proof.
	for {
		entries, err := os.ReadDir("/proc")
		if err != nil {
			return err
		}
		found := false
		for _, entry := range entries {
			pid, err := strconv.Atoi(entry.Name())
			if err != nil {
				continue
			}
			ended, err := endConmon(ctx, pid, idle)
			if err != nil {
				return err
			}
			found = found || ended
		}
		if !found {
			return nil
		}
	}
}

// isIdleConmon tells by the arguments of a process whether it is one of them.
func (b *Backend) isIdleConmon(args, containerIDs []string) bool {
	// One that is just being started is a shell that runs quietScript.
	if filepath.Base(args[0]) != "conmon" && (len(args) == 1 || filepath.Base(args[1]) != quietName) {
		return false
	}
	for _, arg := range args {
		if slices.Contains(containerIDs, arg) {
			return true
		}
		if runner, ours := strings.CutPrefix(arg, "k8s-file:"+b.RunnersDir()+"/"); ours {
			return !b.isLive(filepath.Dir(runner))
		}
	}
	return false
}

// endConmon gives the conmon of a container the time that it needs to write
// down how the container ended. One of an exec session only waits for somebody
// to ask for its result.
func endConmon(ctx context.Context, pid int, idle func(args []string) bool) (found bool, err error) {
	args, err := arguments(pid)
	if err != nil || !idle(args) {
		return false, nil // a process that has ended is none, too
	}
	process, err := openPidfd(pid)
	if errors.Is(err, syscall.ESRCH) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, process.close()) }()
	patience := serviceStopTimeout
	if slices.Contains(args, "--exec-attach") {
		patience = 0
	}
	if ended, err := process.ended(ctx, patience); ended || err != nil {
		return true, err
	}
	if args, err := arguments(pid); err != nil || !idle(args) {
		return false, nil // another process by now
	}
	if err := process.signal(syscall.SIGKILL); err != nil {
		return true, err
	}
	if ended, err := process.ended(ctx, serviceStopTimeout); !ended {
		return true, errors.Join(err, fmt.Errorf("conmon, process %d, does not end", pid))
	}
	return true, nil
}
