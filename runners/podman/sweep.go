package podman

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/containers/podman/v5/pkg/bindings/containers"
	"github.com/containers/podman/v5/pkg/domain/entities/types"

	"github.com/hearth-build/hearth/runners"
)

// Sweep implements runners.Backend: the containers that carry this data
// directory's label, the conmon processes that watch over nothing any more, and
// mounts and directories below the runners' directory. Open has ended the
// service that was left. It also finds out what came of pulls that were not ended.
func (b *Backend) Sweep(ctx context.Context) (int, error) {
	if err := b.settlePulls(ctx); err != nil {
		return 0, fmt.Errorf("look for images that an earlier hearth was pulling: %w", err)
	}
	found, err := b.leftContainers(ctx)
	if err != nil {
		return 0, err
	}
	removed := 0
	var ids []string
	for _, c := range found {
		ids = append(ids, c.ID)
		if err := b.thawLeft(ctx, c); err != nil {
			return removed, err
		}
		if err := b.removeContainer(ctx, c.ID); err != nil {
			return removed, err
		}
		removed++
	}
	if err := b.endConmons(ctx, ids...); err != nil {
		return removed, fmt.Errorf("end the conmon processes of an earlier hearth: %w", err)
	}
	n, err := b.sweepDirs()
	return max(removed, n), err
}

// leftContainers finds the containers of this data directory.
func (b *Backend) leftContainers(ctx context.Context) ([]types.ListContainer, error) {
	var all []types.ListContainer
	err := b.call(ctx, "list containers", func(ctx context.Context) (err error) {
		opts := new(containers.ListOptions).WithAll(true).WithFilters(map[string][]string{"label": {labelDataDir}})
		all, err = containers.List(ctx, opts)
		return err
	})
	return slices.DeleteFunc(all, func(c types.ListContainer) bool {
		return c.Labels[labelDataDir] != b.opts.DataDir || b.isLive(c.Labels[labelRunner])
	}), err
}

// thawLeft thaws a container that was frozen behind podman's back, as podman
// would wait for its processes to die.
func (b *Backend) thawLeft(ctx context.Context, c types.ListContainer) (err error) {
	if c.Pid <= 0 {
		return nil
	}
	files, err := b.cgroups.openCgroup(c.Pid, c.ID)
	defer func() { err = errors.Join(err, files.close()) }()
	if !files.canFreeze() {
		return nil // then nobody froze it like that
	}
	if err := files.setFrozen(ctx, false); err != nil && !errors.Is(err, syscall.ENODEV) {
		return fmt.Errorf("thaw container %s: %w", c.ID, err)
	}
	return nil
}

// sweepDirs removes the runners' directories, and says how many there were.
func (b *Backend) sweepDirs() (int, error) {
	entries, err := os.ReadDir(b.RunnersDir())
	if err != nil {
		return 0, fmt.Errorf("look for what an earlier hearth left: %w", err)
	}
	removed := 0
	for _, entry := range entries {
		if b.isLive(entry.Name()) {
			continue
		}
		path := filepath.Join(b.RunnersDir(), entry.Name())
		_, err := unmountBelow(path)
		if err == nil && entry.IsDir() {
			err = runners.RemoveTree(path)
		} else if err == nil {
			err = os.Remove(path)
		}
		if err != nil {
			return removed, fmt.Errorf("remove what an earlier hearth left: %w", err)
		}
		removed++
	}
	return removed, nil
}
