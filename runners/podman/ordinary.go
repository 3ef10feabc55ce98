package podman

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/containers/podman/v5/pkg/specgen"
	spec "github.com/opencontainers/runtime-spec/specs-go"
)

// What is different for an ordinary user, who is root of a user namespace alone.

// skeletonDir is what stands in for the host's root, in the Backend's directory.
const skeletonDir = "root"

// userNetwork is the program that gives an ordinary user's containers a network. Empty:
// for root, who has bridges, and where there is none, of which podman then complains.
func (p hostPlan) userNetwork() specgen.NamespaceMode {
	switch {
	case !p.ordinary:
		return ""
	case installed("pasta") && !installed("slirp4netns"):
		return specgen.Pasta
	default:
		return specgen.Slirp
	}
}

// compose makes the skeleton, in which there is a place for all that is shown of the
// root, and returns what to mount there. In a user namespace the root itself can be no
// layer of an overlay: it has mounts that the user may not look behind.
func (h hostImage) compose() ([]spec.Mount, error) {
	var mounts []spec.Mount
	for _, part := range []struct {
		dir  string
		show func(name string) bool
	}{{"/", shown}, {"/var/lib", ofTools}} {
		if err := os.MkdirAll(filepath.Join(h.skeleton, part.dir), 0o755); err != nil {
			return nil, err
		}
		entries, err := os.ReadDir(filepath.Join(h.root, part.dir))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, entry := range entries {
			path := filepath.Join(part.dir, entry.Name())
			switch {
			case entry.Type() == fs.ModeSymlink:
				err = h.link(path)
			case entry.IsDir() && part.show(entry.Name()):
				err = os.Mkdir(filepath.Join(h.skeleton, path), 0o755)
				// With all that is mounted in it: to leave that out would show what is behind.
				mounts = append(mounts, bind(filepath.Join(h.root, path), path, "rbind", "ro", "rprivate"))
			default:
				continue
			}
			if err != nil && !errors.Is(err, fs.ErrExist) {
				return nil, fmt.Errorf("make a stand-in for the root of the host: %w", err)
			}
		}
	}
	return mounts, nil
}

// link makes a symbolic link of the root anew, which may have changed.
func (h hostImage) link(path string) error {
	to, err := os.Readlink(filepath.Join(h.root, path))
	if err != nil {
		return err
	}
	own := filepath.Join(h.skeleton, path)
	if now, err := os.Readlink(own); err == nil && now == to {
		return nil
	}
	if err := os.Remove(own); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Symlink(to, own)
}
