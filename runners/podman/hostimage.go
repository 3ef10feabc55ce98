package podman

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/hearth-build/hearth/execserver"
	"github.com/hearth-build/hearth/runners"
)

// hostImage is the image that is the host's own root file system: programs,
// libraries and their configuration, and nothing that belongs to anybody.
type hostImage struct {
	root    string // a clean absolute path
	private string // hearth's data directory
	// skeleton is a directory for what stands in for the root where that cannot be the
	// lower layer of an overlay: see compose. Empty: it can.
	skeleton string
}

// resolve identifies the root file system. Its programs may be upgraded under
// running containers; only another root is another image.
func (h hostImage) resolve() (runners.Image, error) {
	var st unix.Stat_t
	if err := unix.Stat(h.root, &st); err != nil {
		return runners.Image{}, fmt.Errorf("%w: the host's root %s: %w", runners.ErrImage, h.root, err)
	}
	release, err := os.ReadFile(filepath.Join(h.root, "etc/os-release"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return runners.Image{}, fmt.Errorf("%w: the host's root %s: %w", runners.ErrImage, h.root, err)
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%d\x00%d\x00%s", h.root, st.Dev, st.Ino, release))
	return runners.Image{
		Name: runners.HostImage,
		ID:   "host-" + hex.EncodeToString(sum[:]),
		Env:  []string{"PATH=" + execserver.DefaultPath},
	}, nil
}

// hostView is what a container shows and covers of the root.
type hostView struct {
	// masked paths are covered: directories by an empty one, files by /dev/null.
	masked []string
	// mounts are file systems of their own below what is shown, which an overlay
	// of the root lacks.
	mounts []string
}

// shown tells which entries of the root are programs and what they need. It is a
// list of what is shown: who can tell all the places where people keep secrets?
func shown(name string) bool {
	if strings.HasPrefix(name, "lib") {
		return true
	}
	// nix and gnu are the stores of Nix and Guix.
	return slices.Contains([]string{"bin", "sbin", "usr", "etc", "opt", "nix", "gnu"}, name)
}

// special entries are mounts of each container.
func special(name string) bool {
	return slices.Contains([]string{"dev", "proc", "sys", "run", "tmp", "var", "hearth"}, name)
}

// ofTools tells what of /var/lib belongs to compilers and the like. The rest is
// what services keep, which root in a container could read: it can become any user.
func ofTools(name string) bool {
	return slices.Contains([]string{
		"alternatives", "apt", "dpkg", "emacsen-common", "gems", "ghc", "ocaml", "pacman", "python", "rpm", "rpm-state",
		"sgml-base", "tex-common", "texlive", "texmf", "xml-core",
	}, name)
}

// view looks at the root as it is now. Its cost, of some milliseconds, is part
// of each start, so that what was added since is never shown.
func (h hostImage) view() (hostView, error) {
	v := viewer{root: h.root}
	v.coverUnless("/", func(name string) bool { return shown(name) || special(name) })
	v.coverUnless("/var", func(name string) bool { return name == "lib" || name == "tmp" })
	v.coverUnless("/var/lib", ofTools)
	v.coverUnreadable("/etc", 16)
	for _, dir := range []string{"/opt", "/usr/local"} {
		v.coverUnreadable(dir, 1) // all that is in them would take too long to look at
	}
	// Whatever their modes are.
	v.masked = append(v.masked, "/etc/shadow", "/etc/gshadow", "/etc/ssl/private")
	keys, err := filepath.Glob(filepath.Join(h.root, "etc/ssh/ssh_host_*_key"))
	if err != nil {
		return hostView{}, err
	}
	for _, key := range keys {
		v.masked = append(v.masked, v.inside(key))
	}
	if isBelow(h.private, h.root) {
		v.masked = append(v.masked, v.inside(h.private))
	}
	if v.err != nil {
		return hostView{}, fmt.Errorf("find out what to hide of the host's root: %w", v.err)
	}
	mounts, err := v.mounts()
	return hostView{masked: v.outermost(), mounts: mounts}, err
}

// viewer collects what to cover.
type viewer struct {
	root   string
	masked []string // as paths in the container
	err    error
}

// inside is the container's path of a path on the host.
func (v *viewer) inside(path string) string {
	return filepath.Join("/", strings.TrimPrefix(path, v.root))
}

// outermost sorts the masked paths and leaves out those that others cover.
func (v *viewer) outermost() []string {
	key := func(path string) string { return strings.ReplaceAll(path, "/", "\x00") } // a directory sorts right before what is in it
	slices.SortFunc(v.masked, func(a, b string) int { return strings.Compare(key(a), key(b)) })
	var kept []string
	for _, path := range v.masked {
		if len(kept) == 0 || !isBelow(path, kept[len(kept)-1]) {
			kept = append(kept, path)
		}
	}
	return kept
}

// list reads a directory of the root.
func (v *viewer) list(dir string) []fs.DirEntry {
	entries, err := os.ReadDir(filepath.Join(v.root, dir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) {
		v.err = errors.Join(v.err, err)
	}
	return entries
}

// coverUnless covers the entries of a directory but some. A symbolic link is
// shown: where it points to is covered, or is not.
func (v *viewer) coverUnless(dir string, keep func(name string) bool) {
	for _, entry := range v.list(dir) {
		if entry.Type() != fs.ModeSymlink && !keep(entry.Name()) {
			v.masked = append(v.masked, filepath.Join(dir, entry.Name()))
		}
	}
}

// coverUnreadable covers what not everybody on the host may read.
func (v *viewer) coverUnreadable(dir string, depth int) {
	for _, entry := range v.list(dir) {
		if entry.Type() == fs.ModeSymlink {
			continue
		}
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed since
		}
		if err != nil {
			v.err = errors.Join(v.err, err)
			continue
		}
		need := fs.FileMode(0o004)
		if entry.IsDir() {
			need = 0o005
		}
		path := filepath.Join(dir, entry.Name())
		if info.Mode()&need != need {
			v.masked = append(v.masked, path)
		} else if entry.IsDir() && depth > 1 {
			v.coverUnreadable(path, depth-1)
		}
	}
}

// mounts finds the file systems that are mounted below what is shown.
func (v *viewer) mounts() ([]string, error) {
	all, err := readMounts()
	if err != nil {
		return nil, err
	}
	var found []string
	for _, m := range all {
		if m.point == v.root || !isBelow(m.point, v.root) {
			continue
		}
		path := v.inside(m.point)
		top, _, _ := strings.Cut(path[1:], "/")
		covered := slices.ContainsFunc(v.masked, func(masked string) bool { return isBelow(path, masked) })
		// To look at a mount can hang, so the last thing to do.
		if shown(top) && !covered && !slices.Contains(found, path) && m.visible() {
			found = append(found, path)
		}
	}
	return found, nil
}
