package main

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strconv"
	"sync"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/tree"
)

// inputRoots makes what lays out input roots, for each instance name.
type inputRoots struct {
	dataDir  string
	logger   *slog.Logger
	mount    bool
	loops    bool  // by loop devices
	maxBytes int64 // that the store holds

	mu      sync.Mutex // guards all below: the store tells of damage at any time
	keepers []*tree.Keeper
	stagers []closingStager
}

// closingStager is what each kind of Stager is.
type closingStager interface {
	tree.Stager
	Close() error
}

// forgetter is a Stager that uses things for more than one action.
type forgetter interface{ Forget() error }

// Names in the data directory.
const (
	rootsDir   = "roots"   // of the Mounters
	runnersDir = "runners" // where input roots are mounted
)

// prepare removes what a crashed hearth left mounted, and chooses how input
// roots appear, in the way that the flag says.
func (r *inputRoots) prepare(mode string, maxBytes int64) error {
	r.maxBytes = maxBytes
	roots := filepath.Join(r.dataDir, rootsDir)
	for _, dir := range []string{roots, filepath.Join(r.dataDir, runnersDir)} {
		n, err := tree.UnmountBelow(dir)
		if err != nil {
			return fmt.Errorf("remove what an earlier hearth left: %w", err)
		}
		if n > 0 {
			r.logger.Info("unmounted what an earlier hearth left", "dir", dir, "count", n)
		}
	}
	if err := tree.SweepTrash(roots); err != nil {
		return fmt.Errorf("remove what an earlier hearth left: %w", err)
	}
	if mode == "copy" {
		return nil
	}
	loops, err := tree.ProbeMounter(r.dataDir)
	if err == nil {
		err = tree.ShareMount(r.dataDir)
	}
	switch {
	case err == nil:
		r.mount, r.loops = true, loops
		r.logger.Info("input roots are mounted", "loop_devices", loops)
	case mode == "mount":
		return fmt.Errorf("--input-roots mount: input roots cannot be mounted here: %w", err)
	default:
		r.logger.Warn("input roots are made of links and copies, which takes longer the more files they have", "because", err)
	}
	return nil
}

// describeInputRoots says how input roots would appear.
func describeInputRoots(dataDir string) string {
	loops, err := tree.ProbeMounter(dataDir)
	switch {
	case err != nil:
		return fmt.Sprintf("made of links and copies, which is slow for many files; they cannot be mounted: %v", err)
	case loops:
		return "mounted as overlays, by loop devices"
	}
	return "mounted as overlays"
}

// directoryCacheBytes is the memory for Directory messages that the next action
// will want again, for each instance name.
const directoryCacheBytes = 64 << 20

// open makes the parts for one store.
func (r *inputRoots) open(store cas.Store) (*tree.Keeper, tree.Stager, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	// What no action uses may keep so much of the store from being evicted.
	share := max(1, r.maxBytes/4)
	keeper := tree.NewKeeper(tree.NewLoader(store, tree.LoaderOptions{CacheBytes: directoryCacheBytes}), store, tree.KeeperOptions{BlobBytes: share})
	stager, err := r.newStager(store, share)
	if err != nil {
		return nil, nil, err
	}
	r.keepers = append(r.keepers, keeper)
	r.stagers = append(r.stagers, stager)
	return keeper, stager, nil
}

func (r *inputRoots) newStager(store cas.Store, share int64) (closingStager, error) {
	trash := filepath.Join(r.dataDir, "trash")
	if !r.mount {
		return tree.NewCopier(store, tree.CopierOptions{TrashDir: trash, Log: r.logger}), nil
	}
	return tree.NewMounter(store, tree.MounterOptions{
		Dir:         filepath.Join(r.dataDir, rootsDir, strconv.Itoa(len(r.stagers))),
		LoopDevices: r.loops,
		TrashDir:    trash, PackBytes: min(1<<30, share), LinkBytes: share, Log: r.logger,
	})
}

// forget is called when the store has lost something that it had.
func (r *inputRoots) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, k := range r.keepers {
		k.Forget()
	}
	for _, s := range r.stagers {
		f, ok := s.(forgetter)
		if !ok {
			continue
		}
		if err := f.Forget(); err != nil {
			r.logger.Error("cannot unmount input roots", "error", err)
		}
	}
}

// close ends the background work. No action may be running.
func (r *inputRoots) close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var errs []error
	for _, s := range r.stagers {
		errs = append(errs, s.Close())
	}
	r.stagers = nil
	return errors.Join(errs...)
}
