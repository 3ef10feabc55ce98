package tree

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"

	"github.com/hearth-build/hearth/cas"
)

// directory is a Directory message that was checked. It is never changed, and
// shared between graphs.
type directory struct {
	files     []fileEntry
	dirs      []dirEntry
	links     []linkEntry
	absolute  string // name of the first link with an absolute target
	bytes     int64  // about what it takes in memory
	fileBytes int64  // the sizes of its files
}

type fileEntry struct {
	name       string
	digest     cas.Digest
	executable bool
	wish       *wish // nil for almost all
	tool       bool  // see propertyTool
}

type dirEntry struct {
	name   string
	digest cas.Digest
}

type linkEntry struct{ name, target string }

func (e fileEntry) key() string { return e.name }
func (e dirEntry) key() string  { return e.name }
func (e linkEntry) key() string { return e.name }

// find looks a name up in a sorted list of entries.
func find[E interface{ key() string }](entries []E, name string) (int, bool) {
	return slices.BinarySearchFunc(entries, name, func(e E, name string) int {
		return strings.Compare(e.key(), name)
	})
}

// parseDirectory checks a Directory by all rules that need nothing but its own
// bytes. Its errors say what is wrong without saying where.
func parseDirectory(f cas.Function, data []byte) (*directory, error) {
	var m repb.Directory
	if err := proto.Unmarshal(data, &m); err != nil {
		return nil, fmt.Errorf("is not a Directory message: %w", err)
	}
	d := &directory{
		files: make([]fileEntry, 0, len(m.Files)),
		dirs:  make([]dirEntry, 0, len(m.Directories)),
		links: make([]linkEntry, 0, len(m.Symlinks)),
	}
	if err := checkProperties(m.NodeProperties); err != nil {
		return nil, fmt.Errorf("has %w", err)
	}
	if err := d.addFiles(f, m.Files); err != nil {
		return nil, err
	}
	if err := d.addDirs(f, m.Directories); err != nil {
		return nil, err
	}
	if err := d.addLinks(m.Symlinks); err != nil {
		return nil, err
	}
	if err := d.checkUnique(); err != nil {
		return nil, err
	}
	d.bytes = d.measure()
	for _, e := range d.files {
		// A sum that is too large is as good as any that is large.
		d.fileBytes = min(d.fileBytes+min(e.digest.Size(), 1<<40), 1<<40)
	}
	return d, nil
}

func (d *directory) addFiles(f cas.Function, nodes []*repb.FileNode) error {
	last := ""
	for _, n := range nodes {
		if err := checkOrder("file", last, n.GetName()); err != nil {
			return err
		}
		digest, err := childDigest(f, n.GetDigest())
		if err != nil {
			return fmt.Errorf("has a file %s whose %w", quote(n.GetName()), err)
		}
		wish, err := wishOf(n.GetNodeProperties())
		if err != nil {
			return fmt.Errorf("has a file %s with %w", quote(n.GetName()), err)
		}
		last = n.GetName()
		d.files = append(d.files, fileEntry{name: last, digest: digest, executable: n.GetIsExecutable(), wish: wish, tool: isTool(n.GetNodeProperties())})
	}
	return nil
}

func (d *directory) addDirs(f cas.Function, nodes []*repb.DirectoryNode) error {
	last := ""
	for _, n := range nodes {
		if err := checkOrder("directory", last, n.GetName()); err != nil {
			return err
		}
		digest, err := childDigest(f, n.GetDigest())
		if err != nil {
			return fmt.Errorf("has a directory %s whose %w", quote(n.GetName()), err)
		}
		last = n.GetName()
		d.dirs = append(d.dirs, dirEntry{name: last, digest: digest})
	}
	return nil
}

func (d *directory) addLinks(nodes []*repb.SymlinkNode) error {
	last := ""
	for _, n := range nodes {
		if err := checkOrder("symlink", last, n.GetName()); err != nil {
			return err
		}
		if p := targetProblem(n.GetTarget()); p != "" {
			return fmt.Errorf("has a symlink %s whose target %s", quote(n.GetName()), p)
		}
		if err := checkProperties(n.GetNodeProperties()); err != nil {
			return fmt.Errorf("has a symlink %s with %w", quote(n.GetName()), err)
		}
		last = n.GetName()
		if d.absolute == "" && strings.HasPrefix(n.GetTarget(), "/") {
			d.absolute = last
		}
		d.links = append(d.links, linkEntry{name: last, target: n.GetTarget()})
	}
	return nil
}

// childDigest demands the function of the whole graph.
func childDigest(f cas.Function, p *repb.Digest) (cas.Digest, error) {
	if p == nil {
		return cas.Digest{}, fmt.Errorf("digest is absent")
	}
	d, err := cas.ParseDigest(f, p.GetHash(), p.GetSizeBytes())
	if err != nil {
		return cas.Digest{}, fmt.Errorf("digest is wrong: %w", err)
	}
	return d, nil
}

// checkOrder wants names legal and each above the last one, by bytes.
func checkOrder(what, last, name string) error {
	if p := nameProblem(name); p != "" {
		return fmt.Errorf("has a %s whose name %s %s", what, quote(name), p)
	}
	if name == last {
		return fmt.Errorf("has two entries named %s", quote(name))
	}
	if name < last {
		return fmt.Errorf("is not sorted: %s %s comes after %s", what, quote(name), quote(last))
	}
	return nil
}

// checkUnique finds a name that two of the three sorted lists share.
func (d *directory) checkUnique() error {
	for _, e := range d.dirs {
		if _, ok := find(d.files, e.name); ok {
			return fmt.Errorf("has two entries named %s", quote(e.name))
		}
	}
	for _, e := range d.links {
		_, file := find(d.files, e.name)
		_, dir := find(d.dirs, e.name)
		if file || dir {
			return fmt.Errorf("has two entries named %s", quote(e.name))
		}
	}
	return nil
}

func (d *directory) measure() int64 {
	const base, perEntry = 256, 96
	n := int64(base + perEntry*(len(d.files)+len(d.dirs)+len(d.links)))
	for _, e := range d.files {
		n += int64(len(e.name) + len(e.digest.Hash()))
		if e.wish != nil {
			n += perEntry
		}
	}
	for _, e := range d.dirs {
		n += int64(len(e.name) + len(e.digest.Hash()))
	}
	for _, e := range d.links {
		n += int64(len(e.name) + len(e.target))
	}
	return n
}
