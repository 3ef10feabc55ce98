package actioncache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/protobuf/proto"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/memory"
)

// everything is a Store that holds all blobs and cannot be read.
type everything struct{ cas.Store }

func (everything) FindMissing(context.Context, []cas.Digest) ([]cas.Digest, error) { return nil, nil }

// lossy is a Store that counts lookups and loses one blob at a time.
type lossy struct {
	cas.Store
	lost    cas.Digest
	lookups int
	err     error
}

func (s *lossy) FindMissing(ctx context.Context, ds []cas.Digest) ([]cas.Digest, error) {
	s.lookups++
	if s.err != nil {
		return nil, s.err
	}
	missing, err := s.Store.FindMissing(ctx, ds)
	for _, d := range ds {
		if d == s.lost {
			missing = append(missing, d)
			break
		}
	}
	return missing, err
}

func (s *lossy) Get(ctx context.Context, d cas.Digest, offset int64) (io.ReadCloser, error) {
	if d == s.lost {
		return nil, &cas.MissingError{Digests: []cas.Digest{d}}
	}
	return s.Store.Get(ctx, d, offset)
}

// outputs builds a result and knows all blobs that it names.
type outputs struct {
	t        *testing.T
	store    cas.Store
	function cas.Function
	blobs    map[string]cas.Digest
}

func (o *outputs) add(name string, data []byte) *repb.Digest {
	o.t.Helper()
	d, err := cas.PutBytes(o.t.Context(), o.store, o.function, data)
	if err != nil {
		o.t.Fatal(err)
	}
	o.blobs[name] = d
	return d.Proto()
}

func (o *outputs) file(name string) *repb.FileNode {
	return &repb.FileNode{Name: name, Digest: o.add("file "+name, []byte("contents of "+name))}
}

// dir is a Directory that is not a blob of its own.
func (o *outputs) dir(d *repb.Directory) (*repb.Directory, *repb.Digest) {
	return d, o.function.Sum(o.marshal(d)).Proto()
}

func (o *outputs) marshal(m proto.Message) []byte {
	o.t.Helper()
	data, err := proto.Marshal(m)
	if err != nil {
		o.t.Fatal(err)
	}
	return data
}

// newOutputs returns a result with everything that one can name.
func newOutputs(t *testing.T, f cas.Function) (*repb.ActionResult, *outputs) {
	o := &outputs{t: t, store: memory.New(0), function: f, blobs: make(map[string]cas.Digest)}
	shared, sharedDigest := o.dir(&repb.Directory{Files: []*repb.FileNode{o.file("shared")}})
	tree := &repb.Tree{
		Root: &repb.Directory{
			Files: []*repb.FileNode{o.file("root"), {Name: "empty", Digest: f.Empty().Proto()}},
			Directories: []*repb.DirectoryNode{
				{Name: "one", Digest: sharedDigest},
				{Name: "two", Digest: sharedDigest},
				{Name: "none", Digest: f.Empty().Proto()},
			},
			Symlinks: []*repb.SymlinkNode{{Name: "link", Target: "nowhere"}},
		},
		Children: []*repb.Directory{shared},
	}
	leaf := o.add("leaf directory", o.marshal(&repb.Directory{Files: []*repb.FileNode{o.file("leaf")}}))
	root := o.add("root directory", o.marshal(&repb.Directory{
		Files: []*repb.FileNode{o.file("second root")},
		Directories: []*repb.DirectoryNode{
			{Name: "a", Digest: leaf}, {Name: "b", Digest: leaf}, {Name: "c", Digest: f.Empty().Proto()},
		},
	}))
	return &repb.ActionResult{
		OutputFiles: []*repb.OutputFile{
			{Path: "out", Digest: o.add("output", []byte("output"))},
			{Path: "same", Digest: o.add("output", []byte("output"))},
			{Path: "empty", Digest: f.Empty().Proto()},
		},
		OutputSymlinks: []*repb.OutputSymlink{{Path: "link", Target: "out"}},
		OutputDirectories: []*repb.OutputDirectory{
			{Path: "tree", TreeDigest: o.add("tree", o.marshal(tree))},
			{Path: "dir", RootDirectoryDigest: root},
		},
		StdoutDigest: o.add("stdout", []byte("stdout")),
		StderrDigest: o.add("stderr", []byte("stderr")),
	}, o
}

// REAPI B11, E2-E5, E17.
func TestCompleteNeedsEveryBlob(t *testing.T) {
	for _, f := range []cas.Function{cas.SHA256, cas.BLAKE3} {
		r, o := newOutputs(t, f)
		store := &lossy{Store: o.store}
		c := Complete(NewMemory(budget), store)
		key := f.Sum([]byte("action"))
		mustPut(t, c, key, r)
		mustGet(t, c, key, r)
		if store.lookups != 2 {
			t.Errorf("%d lookups for a complete result, want 2", store.lookups)
		}
		if len(o.blobs) != 10 {
			t.Errorf("the result names %d blobs: %v", len(o.blobs), o.blobs)
		}
		for name, d := range o.blobs {
			store.lost = d
			if _, err := c.Get(t.Context(), key); !errors.Is(err, cas.ErrNotFound) {
				t.Errorf("%v without %s: got %v, want ErrNotFound", f, name, err)
			}
		}
		store.lost = cas.Digest{}
		mustGet(t, c, key, r) // what comes back is complete again
	}
}

// REAPI E2: the lookup is a use of every blob.
func TestCompleteExtendsLifetimes(t *testing.T) {
	store := memory.New(1 << 20)
	r, o := newOutputs(t, cas.SHA256)
	for name, d := range o.blobs {
		data, err := cas.ReadAll(t.Context(), o.store, d, d.Size())
		if err != nil {
			t.Fatal(name, err)
		}
		if _, err := cas.PutBytes(t.Context(), store, cas.SHA256, data); err != nil {
			t.Fatal(err)
		}
	}
	c := Complete(NewMemory(budget), store)
	mustPut(t, c, actionKey(1), r)
	for i := range 300 {
		if _, err := cas.PutBytes(t.Context(), store, cas.SHA256, fmt.Appendf(make([]byte, 10_000), "%d", i)); err != nil {
			t.Fatal(err)
		}
		mustGet(t, c, actionKey(1), r)
	}
}

// REAPI E4, E5.
func TestCompleteHidesMalformedTrees(t *testing.T) {
	f := cas.SHA256
	_, o := newOutputs(t, f)
	absent := f.Sum([]byte("absent")).Proto()
	badFile := &repb.Directory{Files: []*repb.FileNode{{Name: "x", Digest: &repb.Digest{Hash: "XY", SizeBytes: 2}}}}
	noDigest := &repb.Directory{Directories: []*repb.DirectoryNode{{Name: "x"}}}
	for name, dir := range map[string]*repb.OutputDirectory{
		"no digest":               {Path: "d"},
		"malformed digest":        {Path: "d", TreeDigest: &repb.Digest{Hash: "zz", SizeBytes: 1}},
		"another function":        {Path: "d", TreeDigest: cas.SHA1.Sum([]byte("x")).Proto()},
		"negative size":           {Path: "d", TreeDigest: &repb.Digest{Hash: absent.GetHash(), SizeBytes: -1}},
		"absurd size":             {Path: "d", TreeDigest: &repb.Digest{Hash: absent.GetHash(), SizeBytes: 1 << 62}},
		"not a Tree":              {Path: "d", TreeDigest: o.add("", []byte("\xff\xff\xff"))},
		"cut":                     {Path: "d", TreeDigest: o.add("", o.marshal(&repb.Tree{Root: badFile})[:5])},
		"directory not a message": {Path: "d", TreeDigest: o.add("", []byte("\x0a\x02\xff\xff"))},
		"malformed file":          {Path: "d", TreeDigest: o.add("", o.marshal(&repb.Tree{Root: badFile}))},
		"malformed file in child": {Path: "d", TreeDigest: o.add("", o.marshal(&repb.Tree{Children: []*repb.Directory{badFile}}))},
		"child without digest":    {Path: "d", TreeDigest: o.add("", o.marshal(&repb.Tree{Root: noDigest}))},
		"child not in the tree": {Path: "d", TreeDigest: o.add("", o.marshal(&repb.Tree{
			Root: &repb.Directory{Directories: []*repb.DirectoryNode{{Name: "x", Digest: absent}}},
		}))},
		"root not a Directory": {Path: "d", RootDirectoryDigest: o.add("", []byte("\xff\xff\xff"))},
		"root absent":          {Path: "d", RootDirectoryDigest: absent},
		"tree and root, one absent": {
			Path: "d", TreeDigest: o.add("", o.marshal(&repb.Tree{Root: &repb.Directory{}})), RootDirectoryDigest: absent,
		},
	} {
		c := Complete(NewMemory(budget), o.store)
		mustPut(t, c, actionKey(1), &repb.ActionResult{OutputDirectories: []*repb.OutputDirectory{dir}})
		if got, err := c.Get(t.Context(), actionKey(1)); !errors.Is(err, cas.ErrNotFound) {
			t.Errorf("%s: got %v, %v, want ErrNotFound", name, got, err)
		}
	}
}

// A tree over the limit is not read, however present it is.
func TestCompleteBoundsTrees(t *testing.T) {
	store := memory.New(0)
	child := &repb.Directory{Symlinks: []*repb.SymlinkNode{{Name: "l", Target: strings.Repeat("t", maxTreeBytes/2)}}}
	data, err := proto.Marshal(&repb.Tree{Root: child})
	if err != nil {
		t.Fatal(err)
	}
	d, err := cas.PutBytes(t.Context(), store, cas.SHA256, data)
	if err != nil {
		t.Fatal(err)
	}
	c := Complete(NewMemory(budget), store)
	one := []*repb.OutputDirectory{{Path: "a", TreeDigest: d.Proto()}}
	mustPut(t, c, actionKey(1), &repb.ActionResult{OutputDirectories: one})
	if _, err := c.Get(t.Context(), actionKey(1)); err != nil {
		t.Errorf("a tree of half the limit: %v", err)
	}
	mustPut(t, c, actionKey(2), &repb.ActionResult{OutputDirectories: append(one, one...)})
	mustMiss(t, c, actionKey(2))
}

// REAPI C6: a store that fails is no miss.
func TestCompletePassesErrorsOn(t *testing.T) {
	r, o := newOutputs(t, cas.SHA256)
	broken := errors.New("input/output error")
	c := Complete(NewMemory(budget), &lossy{Store: o.store, err: broken})
	mustPut(t, c, actionKey(1), r)
	if _, err := c.Get(t.Context(), actionKey(1)); !errors.Is(err, broken) || errors.Is(err, cas.ErrNotFound) {
		t.Errorf("got %v, want the store's error", err)
	}
}
