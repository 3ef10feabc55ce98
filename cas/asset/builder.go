package asset

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/protobuf/proto"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/tree"
)

// builder makes a Directory graph of the entries of an archive, whose files go
// into the store as they come. What it stored is leased until release.
type builder struct {
	store    cas.Store
	function cas.Function
	limits   OriginOptions
	content  *limitedReader // of all files together
	root     *directory
	nodes    int
	releases []func()
}

// directory is one being built. A name is in one of the maps at most.
type directory struct {
	files map[string]file
	dirs  map[string]*directory
	links map[string]string
}

type file struct {
	digest     cas.Digest
	executable bool
}

// storeError is a fault of this side and not of an archive.
type storeError struct{ error }

// Unwrap makes it transparent to errors.Is.
func (e *storeError) Unwrap() error { return e.error }

func newBuilder(ctx context.Context, store cas.Store, f cas.Function, limits OriginOptions) *builder {
	return &builder{
		store: store, function: f, limits: limits, root: newDirectory(),
		content: &limitedReader{ctx: ctx, left: limits.MaxUnpackedBytes, max: limits.MaxUnpackedBytes},
	}
}

func newDirectory() *directory {
	return &directory{files: map[string]file{}, dirs: map[string]*directory{}, links: map[string]string{}}
}

// release ends the leases. The caller has the root in the store by then.
func (b *builder) release() {
	for _, r := range b.releases {
		r()
	}
}

// split takes the name of an entry apart. It refuses what would lead out of the
// tree on a file system, though nothing here is written by name.
func split(name string) ([]string, error) {
	lim := tree.DefaultLimits()
	bad := func(why string) ([]string, error) {
		return nil, fault(ErrBroken, "the archive has an entry %s whose name %s", quote(name), why)
	}
	switch {
	case strings.HasPrefix(name, "/"):
		return bad("is absolute")
	case len(name) > lim.MaxPathLength:
		return bad(fmt.Sprintf("is longer than %d bytes", lim.MaxPathLength))
	case !utf8.ValidString(name):
		return bad("is not valid UTF-8")
	}
	var names []string
	for segment := range strings.SplitSeq(name, "/") {
		switch segment {
		case "", ".":
		case "..":
			return bad("leads out of the archive")
		default:
			names = append(names, segment)
		}
	}
	if len(names) >= lim.MaxDepth {
		return bad(fmt.Sprintf("is deeper than %d directories", lim.MaxDepth))
	}
	return names, nil
}

// enter returns the directory of these names, which it makes if it is missing.
func (b *builder) enter(names []string) (*directory, error) {
	d := b.root
	for i, name := range names {
		if d.isLeaf(name) {
			return nil, fault(ErrBroken, "the archive has %s as a directory and as something else", quote(path.Join(names[:i+1]...)))
		}
		next := d.dirs[name]
		if next == nil {
			if err := b.count(); err != nil {
				return nil, err
			}
			next = newDirectory()
			d.dirs[name] = next
		}
		d = next
	}
	return d, nil
}

func (d *directory) isLeaf(name string) bool {
	_, isFile := d.files[name]
	_, isLink := d.links[name]
	return isFile || isLink
}

func (b *builder) count() error {
	most := tree.DefaultLimits().MaxNodes
	if b.nodes++; b.nodes > most {
		return fault(ErrTooLarge, "the archive has more than %d files, directories and symlinks", most)
	}
	return nil
}

// place returns the directory and the name for something that is none itself. A
// later entry takes the place of an earlier one, as it does in tar.
func (b *builder) place(name string) (*directory, string, error) {
	names, err := split(name)
	if err != nil {
		return nil, "", err
	}
	if len(names) == 0 {
		return nil, "", fault(ErrBroken, "the archive has an entry %s that is no directory", quote(name))
	}
	last := names[len(names)-1]
	d, err := b.enter(names[:len(names)-1])
	if err != nil {
		return nil, "", err
	}
	if d.dirs[last] != nil {
		return nil, "", fault(ErrBroken, "the archive has %s as a directory and as something else", quote(name))
	}
	if !d.isLeaf(last) {
		if err := b.count(); err != nil {
			return nil, "", err
		}
	}
	delete(d.files, last)
	delete(d.links, last)
	return d, last, nil
}

// has says whether a file or link of that name is there.
func (b *builder) has(name string) bool {
	names, err := split(name)
	if err != nil || len(names) == 0 {
		return false
	}
	d := b.root
	for _, n := range names[:len(names)-1] {
		if d = d.dirs[n]; d == nil {
			return false
		}
	}
	return d.isLeaf(names[len(names)-1])
}

func (b *builder) addDirectory(name string) error {
	names, err := split(name)
	if err == nil {
		_, err = b.enter(names)
	}
	return err
}

func (b *builder) addSymlink(name, target string) error {
	if !utf8.ValidString(target) {
		return fault(ErrBroken, "the archive has a symlink %s whose target is not valid UTF-8", quote(name))
	}
	d, last, err := b.place(name)
	if err == nil {
		d.links[last] = target
	}
	return err
}

// addHardLink makes a copy of an earlier entry, which the target names from the
// root of the archive.
func (b *builder) addHardLink(name, target string) error {
	names, err := split(target)
	if err != nil {
		return err
	}
	from := b.root
	for i := 0; i < len(names)-1 && from != nil; i++ {
		from = from.dirs[names[i]]
	}
	if from == nil || len(names) == 0 || !from.isLeaf(names[len(names)-1]) {
		return fault(ErrBroken, "the archive has a hard link %s to %s, which is no file before it", quote(name), quote(target))
	}
	source := names[len(names)-1]
	f, isFile := from.files[source]
	link := from.links[source]
	d, last, err := b.place(name)
	if err != nil {
		return err
	}
	if isFile {
		d.files[last] = f
	} else {
		d.links[last] = link
	}
	return nil
}

// addFile stores a file, whose end r knows.
func (b *builder) addFile(ctx context.Context, name string, executable bool, r io.Reader) error {
	d, last, err := b.place(name)
	if err != nil {
		return err
	}
	s := &spool{dir: b.limits.SpoolDir}
	defer s.Close()
	b.content.r = r // holes in sparse files are no bytes of the archive, but of the file
	if _, err := io.Copy(s, b.content); s.err != nil {
		return &storeError{s.err}
	} else if err != nil {
		return err
	}
	content, err := s.content(b.function, nil)
	if err != nil {
		return &storeError{err}
	}
	if err := b.put(ctx, content); err != nil {
		return err
	}
	d.files[last] = file{content.Digest(), executable}
	return nil
}

func (b *builder) put(ctx context.Context, content *cas.Content) error {
	if leaser, ok := b.store.(cas.Leaser); ok {
		b.releases = append(b.releases, leaser.Lease([]cas.Digest{content.Digest()}))
	}
	if err := b.store.Put(ctx, content); err != nil {
		return &storeError{err}
	}
	return nil
}

// finish stores the Directories of the tree below a path, and checks the result
// by the same rules as an input root.
func (b *builder) finish(ctx context.Context, below string) (cas.Digest, error) {
	d := b.root
	if below != "" {
		for name := range strings.SplitSeq(below, "/") {
			if d = d.dirs[name]; d == nil {
				return cas.Digest{}, fault(ErrAbsent, "the archive has no directory %s", quote(below))
			}
		}
	}
	root, err := b.encode(ctx, d)
	if err != nil {
		return cas.Digest{}, err
	}
	if _, err := tree.Load(ctx, b.store, root, tree.Limits{}); errors.Is(err, tree.ErrInvalid) {
		return cas.Digest{}, fault(ErrBroken, "the archive holds what the API cannot express: %.300v", err)
	} else if err != nil {
		return cas.Digest{}, &storeError{err}
	}
	return root, nil
}

// encode stores a directory after those in it. It goes no deeper than a path does.
func (b *builder) encode(ctx context.Context, d *directory) (cas.Digest, error) {
	m := &repb.Directory{}
	for _, name := range slices.Sorted(maps.Keys(d.files)) {
		f := d.files[name]
		m.Files = append(m.Files, &repb.FileNode{Name: name, Digest: f.digest.Proto(), IsExecutable: f.executable})
	}
	for _, name := range slices.Sorted(maps.Keys(d.dirs)) {
		sub, err := b.encode(ctx, d.dirs[name])
		if err != nil {
			return cas.Digest{}, err
		}
		m.Directories = append(m.Directories, &repb.DirectoryNode{Name: name, Digest: sub.Proto()})
	}
	for _, name := range slices.Sorted(maps.Keys(d.links)) {
		m.Symlinks = append(m.Symlinks, &repb.SymlinkNode{Name: name, Target: d.links[name]})
	}
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return cas.Digest{}, fmt.Errorf("encode a directory of an archive: %w", err)
	}
	content := b.function.Content(data)
	return content.Digest(), b.put(ctx, content)
}
