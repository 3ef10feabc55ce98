package podman

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/hearth-build/hearth/runners"
)

// Memory implements runners.Weighs. The page cache is left out: the kernel takes
// that back when it likes.
func (in *instance) Memory(context.Context) (int64, error) {
	if in.cgroup.stat == nil {
		return 0, nil
	}
	held, err := in.cgroup.held()
	if err != nil {
		return 0, fmt.Errorf("memory of container %s: %w", in.spec.ID, err)
	}
	return held, nil
}

// held is the memory of processes and of file systems in memory.
func (m *meter) held() (int64, error) {
	const most = 16 << 10
	text, err := readInto(m.stat, make([]byte, most))
	if err != nil {
		return 0, err
	}
	names := []string{"total_rss", "total_shmem"}
	if m.v2Stat {
		names = []string{"anon", "shmem"}
	}
	var sum int64
	for _, name := range names {
		n, err := value(text, name)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

// Drift implements runners.Weighs. What the container has beside its image is the
// upper layer of its root, which some storage drivers do not have.
func (in *instance) Drift(ctx context.Context) (runners.Drift, error) {
	upper, err := upperDir(in.init.pid)
	if err != nil || upper == "" {
		return runners.Drift{}, err
	}
	drift, err := measureTree(ctx, upper)
	if err != nil {
		return drift, fmt.Errorf("what container %s has beside its image: %w", in.spec.ID, err)
	}
	return drift, nil
}

// upperDir finds the upper layer of the overlay that a process has as its root; ""
// if that is none.
func upperDir(pid int) (string, error) {
	mounts, err := readMountsOf(fmt.Sprint(pid))
	if err != nil {
		return "", err
	}
	for _, m := range mounts {
		if m.point != "/" || m.fsType != "overlay" {
			continue
		}
		for _, option := range m.superOpt {
			if dir, ok := strings.CutPrefix(option, "upperdir="); ok && filepath.IsAbs(dir) {
				return unescape(dir), nil
			}
		}
	}
	return "", nil
}

// measureTree adds up what is in a directory, which changes meanwhile.
func measureTree(ctx context.Context, dir string) (runners.Drift, error) {
	var d runners.Drift
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case path == dir:
			return nil
		}
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		const blockSize = 512 // that stat(2) counts in, whatever the file system has
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			d.Bytes += st.Blocks * blockSize
		}
		d.Files++
		return nil
	})
	return d, err
}
