package tree

import (
	"path"
	"strings"

	"github.com/hearth-build/hearth/cas"
)

// Kind is what an entry of a tree is.
type Kind int

// The kinds of entries that a tree can have.
const (
	KindFile Kind = iota + 1
	KindDirectory
	KindSymlink
)

// String names the kind for messages.
func (k Kind) String() string {
	switch k {
	case KindFile:
		return "file"
	case KindDirectory:
		return "directory"
	case KindSymlink:
		return "symbolic link"
	default:
		return "nothing"
	}
}

// Graph is a valid Directory graph in memory. It never changes and is safe for
// concurrent use.
type Graph struct {
	root     *node
	dirs     []*node // distinct, breadth first, the root first
	files    func() []cas.Digest
	absolute string // path of a link with an absolute target
	missing  bool   // some Directory could not be had
	bytes    int64  // of the files of all distinct Directories
}

// node is one distinct Directory of a graph.
type node struct {
	*directory // nil while not loaded, and if missing
	digest     cas.Digest
	children   []*node // as in directory.dirs

	index  int   // in Graph.dirs
	parent *node // the first that was seen, for messages
	name   string

	size  sizes
	state state
}

// Root returns the digest of the root Directory.
func (g *Graph) Root() cas.Digest { return g.root.digest }

// Files returns the distinct file blobs, in order of appearance, without the
// empty blob, which is present everywhere. The caller does not change it.
func (g *Graph) Files() []cas.Digest { return g.files() }

// Directories returns the digests of the distinct Directories, the root first.
func (g *Graph) Directories() []cas.Digest {
	ds := make([]cas.Digest, len(g.dirs))
	for i, n := range g.dirs {
		ds[i] = n.digest
	}
	return ds
}

// Nodes counts what appears on disk: files, directories and symbolic links.
func (g *Graph) Nodes() int { return g.root.size.nodes }

// Lookup says what is at a path from the root ("" is the root). It follows no
// symbolic link.
func (g *Graph) Lookup(p string) (Kind, bool) {
	n := g.root
	for p != "" {
		if n.directory == nil {
			return 0, false
		}
		name, rest, _ := strings.Cut(p, "/")
		i, ok := find(n.directory.dirs, name)
		if !ok {
			return leafKind(n.directory, name), rest == "" && leafKind(n.directory, name) != 0
		}
		n, p = n.children[i], rest
	}
	return KindDirectory, true
}

// File returns the digest of the file at a path from the root. It follows no symbolic
// link.
func (g *Graph) File(p string) (cas.Digest, bool) {
	n := g.root
	for n.directory != nil {
		name, rest, below := strings.Cut(p, "/")
		if !below {
			i, ok := find(n.directory.files, name)
			if !ok {
				return cas.Digest{}, false
			}
			return n.directory.files[i].digest, true
		}
		i, ok := find(n.directory.dirs, name)
		if !ok {
			return cas.Digest{}, false
		}
		n, p = n.children[i], rest
	}
	return cas.Digest{}, false
}

// InputFile is a file of a graph.
type InputFile struct {
	Path   string // from the root
	Digest cas.Digest
	// Tool: Bazel says that it is part of the tool that the action runs.
	Tool bool
}

// EachFile calls f for each file at each of its places, sorted within a directory.
func (g *Graph) EachFile(f func(InputFile) error) error {
	return g.root.eachFile("", f)
}

func (n *node) eachFile(dir string, f func(InputFile) error) error {
	if n.directory == nil {
		return nil
	}
	for _, e := range n.files {
		if err := f(InputFile{Path: path.Join(dir, e.name), Digest: e.digest, Tool: e.tool}); err != nil {
			return err
		}
	}
	for i, e := range n.dirs {
		if err := n.children[i].eachFile(path.Join(dir, e.name), f); err != nil {
			return err
		}
	}
	return nil
}

func leafKind(d *directory, name string) Kind {
	if _, ok := find(d.files, name); ok {
		return KindFile
	}
	if _, ok := find(d.links, name); ok {
		return KindSymlink
	}
	return 0
}

// path returns one place of the node in the tree.
func (n *node) path() string {
	var names []string
	for ; n.parent != nil; n = n.parent {
		names = append(names, n.name)
	}
	p := ""
	for i := len(names) - 1; i >= 0; i-- {
		p = path.Join(p, names[i])
	}
	return p
}

// subject names the node in messages.
func (n *node) subject() string {
	if n.parent == nil {
		return "input root " + n.digest.String()
	}
	return "input directory " + quote(n.path()) + " (" + n.digest.String() + ")"
}

func (n *node) invalid(reason string) error {
	return &InvalidError{Subject: n.subject(), Reason: reason}
}
