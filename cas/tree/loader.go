package tree

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"sync"

	"github.com/hearth-build/hearth/cas"
)

// Load reads and validates the Directory graph below root. Every problem of
// form is an *InvalidError. If Directories are missing, all that can be known
// are in one *cas.MissingError, and the Graph returned with it is good for
// Files, Directories and Lookup, so that a caller can name missing files too.
func Load(ctx context.Context, g cas.Getter, root cas.Digest, lim Limits) (*Graph, error) {
	return NewLoader(g, LoaderOptions{Limits: lim}).Load(ctx, root)
}

// LoaderOptions configure a Loader. The zero value is ready.
type LoaderOptions struct {
	// Limits of each graph.
	Limits Limits
	// CacheBytes bounds the memory for checked Directories that are kept for
	// the next graph; 0: none are kept. A kept Directory is used even if the
	// store lost its blob meanwhile, which harms no one: nothing reads it again.
	CacheBytes int64
	// Concurrency bounds the blobs that one Load reads at a time; 0: 16.
	Concurrency int
}

// Loader loads graphs and remembers their Directories, most of which the next
// action has as well. It is safe for concurrent use.
type Loader struct {
	getter      cas.Getter
	limits      Limits
	concurrency int
	cache       *cache // nil: none
}

// NewLoader makes a Loader that reads from g.
func NewLoader(g cas.Getter, opts LoaderOptions) *Loader {
	l := &Loader{getter: g, limits: opts.Limits.withDefaults(), concurrency: cmp.Or(opts.Concurrency, 16)}
	if opts.CacheBytes > 0 {
		l.cache = newCache(opts.CacheBytes)
	}
	return l
}

// Load is like the function Load.
func (l *Loader) Load(ctx context.Context, root cas.Digest) (*Graph, error) {
	first := &node{digest: root}
	b := builder{loader: l, graph: &Graph{root: first, dirs: []*node{first}}, byDigest: map[cas.Digest]*node{root: first}}
	level := b.graph.dirs
	for depth := 1; len(level) > 0; depth++ {
		if depth > l.limits.MaxDepth {
			return nil, level[0].invalid(fmt.Sprintf("is deeper than %d directories, the limit for one input root", l.limits.MaxDepth))
		}
		if err := b.load(ctx, level); err != nil {
			return nil, err
		}
		start := len(b.graph.dirs)
		for _, n := range level {
			if err := b.expand(n); err != nil {
				return nil, err
			}
		}
		level = b.graph.dirs[start:]
	}
	if err := b.graph.measure(l.limits); err != nil {
		return nil, err
	}
	b.graph.files = sync.OnceValue(b.graph.collectFiles)
	if len(b.missing) > 0 {
		b.graph.missing = true
		return b.graph, &cas.MissingError{Digests: b.missing}
	}
	return b.graph, nil
}

// builder is one graph while it is being loaded.
type builder struct {
	loader   *Loader
	graph    *Graph
	byDigest map[cas.Digest]*node
	missing  []cas.Digest
	known    int // entries for certain, however often subtrees repeat
}

// load fills in the directories of one level, several at a time. It returns
// the first problem by position, so that equal graphs give equal messages.
func (b *builder) load(ctx context.Context, level []*node) error {
	absent := level
	if b.loader.cache != nil {
		absent = b.loader.cache.fill(level)
	}
	problems := make([]error, len(absent))
	err := parallel(ctx, b.loader.concurrency, len(absent), func(ctx context.Context, i int) error {
		n := absent[i]
		d, err := b.loader.read(ctx, n)
		n.directory, problems[i] = d, err
		if err == nil || errors.Is(err, ErrInvalid) || errors.Is(err, cas.ErrNotFound) {
			return nil
		}
		return fmt.Errorf("load %s: %w", n.subject(), err)
	})
	if err != nil {
		return err
	}
	for i, err := range problems {
		switch {
		case errors.Is(err, cas.ErrNotFound):
			b.missing = append(b.missing, absent[i].digest)
		case err != nil:
			return err
		}
	}
	if b.loader.cache != nil {
		b.loader.cache.add(absent)
	}
	return nil
}

func (l *Loader) read(ctx context.Context, n *node) (*directory, error) {
	if n.digest.Size() > l.limits.MaxDirectoryBytes {
		return nil, n.invalid(fmt.Sprintf("is larger than %d bytes, the limit for one Directory", l.limits.MaxDirectoryBytes))
	}
	data, err := cas.ReadAll(ctx, l.getter, n.digest, l.limits.MaxDirectoryBytes)
	if err != nil {
		return nil, err
	}
	d, err := parseDirectory(n.digest.Function(), data)
	if err != nil {
		return nil, n.invalid(err.Error())
	}
	return d, nil
}

// expand makes nodes of the children of n that are new, and does the checks
// that depend on the Limits. Since every distinct Directory is materialised at
// least once, too many entries in them are too many altogether: the graph is
// refused before the rest of it is read.
func (b *builder) expand(n *node) error {
	if n.directory == nil {
		return nil
	}
	if n.absolute != "" && b.graph.absolute == "" {
		if b.loader.limits.NoAbsoluteSymlinks {
			return n.invalid(fmt.Sprintf("has a symlink %s with an absolute target, which is disallowed here", quote(n.absolute)))
		}
		b.graph.absolute = path.Join(n.path(), n.absolute)
	}
	b.known += len(n.files) + len(n.links)
	b.graph.bytes += n.fileBytes
	n.children = make([]*node, len(n.dirs))
	for i, e := range n.dirs {
		child, ok := b.byDigest[e.digest]
		if !ok {
			child = &node{digest: e.digest, index: len(b.graph.dirs), parent: n, name: e.name}
			b.byDigest[e.digest] = child
			b.graph.dirs = append(b.graph.dirs, child)
		}
		n.children[i] = child
	}
	if lim := b.loader.limits.MaxNodes; b.known+len(b.byDigest) > lim {
		return n.invalid(fmt.Sprintf("has, with its siblings, more than %d files, directories and symlinks, the limit for one input root", lim))
	}
	return nil
}

func (g *Graph) collectFiles() []cas.Digest {
	count := 0
	for _, n := range g.dirs {
		if n.directory != nil {
			count += len(n.files)
		}
	}
	seen := make(map[cas.Digest]struct{}, count)
	files := make([]cas.Digest, 0, count)
	for _, n := range g.dirs {
		if n.directory == nil {
			continue
		}
		for _, e := range n.files {
			if e.digest.IsEmptyBlob() {
				continue
			}
			if seen[e.digest] = struct{}{}; len(seen) > len(files) { // it is new
				files = append(files, e.digest)
			}
		}
	}
	return files
}
