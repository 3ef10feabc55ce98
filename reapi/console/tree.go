package console

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"strings"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/protobuf/proto"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/reapi/execution"
)

// Listing is what is in a directory of an action's inputs or outputs.
type Listing struct {
	// Kind is inputs or trees, and Path where the directory is in them.
	Kind, Path string
	Root       string // digest
	Entries    []Entry
	// Left is how many entries are left out.
	Left int
	// Way leads to the directory from the root.
	Way []Step
}

// Entry is one thing in a directory.
type Entry struct {
	Name   string `json:"name"`
	Kind   string `json:"kind"` // file, directory or link
	Size   int64  `json:"size"`
	Digest string `json:"digest,omitempty"`
	// Executable files, and where links point to.
	Executable bool   `json:"executable,omitempty"`
	Target     string `json:"target,omitempty"`
	// URL is where it is.
	URL string `json:"url,omitempty"`
}

// Step is a directory on the way to another.
type Step struct{ Name, URL string }

// maxEntries is how many of a directory are shown.
const maxEntries = 2000

// directories reads those of a graph by their digests.
type directories func(ctx context.Context, d *repb.Digest) (*repb.Directory, error)

// graph is a tree of directories with a root.
type graph struct {
	kind     string
	at       place
	function cas.Function
	root     *repb.Digest // of the Directory or the Tree, as in URLs
	top      *repb.Directory
	read     directories
}

// inputs shows a directory or sends a file below a root Directory.
func (p *pages) inputs(r *http.Request) (look, error) {
	instance, d, err := p.blobOf(r)
	if err != nil {
		return nil, err
	}
	return walk(r, func(ctx context.Context) (*graph, error) {
		return inputGraph(ctx, instance.Store, placeIn(r), d)
	})
}

func inputGraph(ctx context.Context, store cas.Getter, at place, root cas.Digest) (*graph, error) {
	read := func(ctx context.Context, named *repb.Digest) (*repb.Directory, error) {
		d, err := cas.FromProto(root.Function().Proto(), named)
		if err != nil {
			return nil, err
		}
		directory := &repb.Directory{}
		if err := readMessage(ctx, store, "directory", d, directory); err != nil {
			return nil, err
		}
		return directory, checkNames(directory)
	}
	top, err := read(ctx, root.Proto())
	return &graph{kind: "inputs", at: at, function: root.Function(), root: root.Proto(), top: top, read: read}, err
}

// trees shows a directory or sends a file of an output directory's Tree.
func (p *pages) trees(r *http.Request) (look, error) {
	instance, d, err := p.blobOf(r)
	if err != nil {
		return nil, err
	}
	return walk(r, func(ctx context.Context) (*graph, error) {
		return outputGraph(ctx, instance.Store, placeIn(r), d)
	})
}

func outputGraph(ctx context.Context, store cas.Getter, at place, root cas.Digest) (*graph, error) {
	tree := &repb.Tree{}
	if err := readMessage(ctx, store, "tree", root, tree); err != nil {
		return nil, err
	}
	children := map[string]*repb.Directory{}
	for _, child := range tree.GetChildren() {
		data, err := proto.MarshalOptions{Deterministic: true}.Marshal(child)
		if err != nil {
			return nil, err
		}
		children[root.Function().Sum(data).Hash()] = child
	}
	read := func(_ context.Context, named *repb.Digest) (*repb.Directory, error) {
		if child, ok := children[named.GetHash()]; ok {
			return child, checkNames(child)
		}
		return nil, notFound("the Tree lacks one of its directories")
	}
	return &graph{kind: "trees", at: at, function: root.Function(), root: root.Proto(), top: tree.GetRoot(), read: read}, checkNames(tree.GetRoot())
}

// checkNames refuses a directory that no action could have had. Who unpacks one would
// find its files elsewhere.
func checkNames(d *repb.Directory) error {
	seen := map[string]bool{}
	check := func(name string) error {
		if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") || seen[name] {
			return fmt.Errorf("this is no directory of an action: it has the name %q, or that twice", name)
		}
		seen[name] = true
		return nil
	}
	var errs []error
	for _, f := range d.GetFiles() {
		errs = append(errs, check(f.GetName()))
	}
	for _, sub := range d.GetDirectories() {
		errs = append(errs, check(sub.GetName()))
	}
	for _, link := range d.GetSymlinks() {
		errs = append(errs, check(link.GetName()))
	}
	return errors.Join(errs...)
}

// walk shows what is at the path of a request.
func walk(r *http.Request, open func(context.Context) (*graph, error)) (look, error) {
	g, err := open(r.Context())
	var listing *Listing
	if err == nil {
		listing, err = g.list(r.Context(), r.PathValue("path"))
	}
	if err != nil {
		return nil, notFound(err.Error())
	}
	return func() (*page, error) {
		return &page{title: "Directory " + path.Join("/", listing.Path), section: "", template: "tree.html", data: listing, json: listing.Entries}, nil
	}, nil
}

// listInputs lists a directory of an input root.
func listInputs(ctx context.Context, instance *execution.Instance, at place, root cas.Digest) (*Listing, error) {
	g, err := inputGraph(ctx, instance.Store, at, root)
	if err != nil {
		return nil, err
	}
	return g.list(ctx, "")
}

// find goes down to the directory at a path.
func (g *graph) find(ctx context.Context, dir string) (*repb.Directory, error) {
	at := g.top
	for name := range strings.SplitSeq(dir, "/") {
		if name == "" {
			continue
		}
		next, err := g.enter(ctx, at, name)
		if err != nil {
			return nil, err
		}
		at = next
	}
	return at, nil
}

func (g *graph) enter(ctx context.Context, at *repb.Directory, name string) (*repb.Directory, error) {
	for _, sub := range at.GetDirectories() {
		if sub.GetName() == name {
			return g.read(ctx, sub.GetDigest())
		}
	}
	return nil, notFound("there is no such directory")
}

// list says what is in the directory at a path.
func (g *graph) list(ctx context.Context, dir string) (*Listing, error) {
	dir = strings.Trim(dir, "/")
	directory, err := g.find(ctx, dir)
	if err != nil {
		return nil, err
	}
	l := &Listing{Kind: g.kind, Path: dir, Root: g.root.GetHash()}
	for _, sub := range directory.GetDirectories() {
		l.Entries = append(l.Entries, Entry{Name: sub.GetName() + "/", Kind: "directory", Digest: sub.GetDigest().GetHash(), URL: g.url(path.Join(dir, sub.GetName()))})
	}
	for _, f := range directory.GetFiles() {
		l.Entries = append(l.Entries, Entry{
			Name: f.GetName(), Kind: "file", Size: f.GetDigest().GetSizeBytes(), Digest: f.GetDigest().GetHash(), Executable: f.GetIsExecutable(),
			URL: g.at.url("/blobs/", g.function, f.GetDigest(), "") + "&name=" + url.QueryEscape(f.GetName()),
		})
	}
	for _, link := range directory.GetSymlinks() {
		l.Entries = append(l.Entries, Entry{Name: link.GetName(), Kind: "link", Target: link.GetTarget()})
	}
	if len(l.Entries) > maxEntries {
		l.Left = len(l.Entries) - maxEntries
		l.Entries = l.Entries[:maxEntries]
	}
	l.Way = append(l.Way, Step{"root", g.url("")})
	for i, name := range strings.Split(dir, "/") {
		if name != "" {
			l.Way = append(l.Way, Step{name, g.url(strings.Join(strings.Split(dir, "/")[:i+1], "/"))})
		}
	}
	return l, nil
}

// url is where a directory of the graph is.
func (g *graph) url(dir string) string {
	suffix := "/"
	for name := range strings.SplitSeq(dir, "/") {
		if name != "" {
			suffix += url.PathEscape(name) + "/"
		}
	}
	return g.at.url("/"+g.kind+"/", g.function, g.root, suffix)
}
