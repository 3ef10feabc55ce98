package tree_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/tree"
)

func TestLoad(t *testing.T) {
	checkLeaks(t)
	s := newStore()
	lib := dir{"lib.a": "library", "none": ""}
	root := s.tree(t, dir{"a": dir{"lib": lib, "x": "x"}, "b": dir{"lib": lib}, "link": link("a/x"), "run": exe("#!"), "void": dir{}})
	g := load(t, s, root)
	if g.Root() != root {
		t.Errorf("root is %v, want %v", g.Root(), root)
	}
	// REAPI G7: a subtree that is referenced twice is there twice: 5 in the root,
	// a/{lib,x}, b/lib and two of two in lib, and the root itself.
	if g.Nodes() != 1+5+2+1+4 {
		t.Errorf("%d nodes", g.Nodes())
	}
	if n := len(g.Directories()); n != 5 || g.Directories()[0] != root {
		t.Errorf("%d distinct directories, want 5 with the root first", n)
	}
	want := []cas.Digest{cas.SHA256.Sum([]byte("#!")), cas.SHA256.Sum([]byte("x")), cas.SHA256.Sum([]byte("library"))}
	if !slices.Equal(g.Files(), want) { // REAPI B13: without the empty one
		t.Errorf("files %v, want %v", g.Files(), want)
	}
	for path, want := range map[string]tree.Kind{
		"": tree.KindDirectory, "a": tree.KindDirectory, "b/lib": tree.KindDirectory, "void": tree.KindDirectory,
		"a/lib/lib.a": tree.KindFile, "run": tree.KindFile, "link": tree.KindSymlink,
		"nope": 0, "run/x": 0, "link/x": 0, "a/nope": 0, "/a": 0, "a//lib": 0, "..": 0, "a/../run": 0,
	} {
		if k, ok := g.Lookup(path); ok != (want != 0) || ok && k != want {
			t.Errorf("Lookup(%q) = %v, %v; want %v", path, k, ok, want)
		}
	}
}

// REAPI B11: the empty digest is an empty root, stored or not.
func TestLoadEmptyRoot(t *testing.T) {
	for _, f := range cas.Functions() {
		g := load(t, newStore(), f.Empty())
		if g.Nodes() != 1 || len(g.Files()) != 0 {
			t.Errorf("%v: %d nodes, %d files", f, g.Nodes(), len(g.Files()))
		}
	}
}

func fileNode(name string) *repb.FileNode {
	return &repb.FileNode{Name: name, Digest: cas.SHA256.Sum([]byte("x")).Proto()}
}

func dirNode(name string) *repb.DirectoryNode {
	return &repb.DirectoryNode{Name: name, Digest: cas.SHA256.Empty().Proto()}
}

func linkNode(name, target string) *repb.SymlinkNode {
	return &repb.SymlinkNode{Name: name, Target: target}
}

func files(names ...string) *repb.Directory {
	d := &repb.Directory{}
	for _, n := range names {
		d.Files = append(d.Files, fileNode(n))
	}
	return d
}

// REAPI G1-G3, G5, G6, G13, B12: what no Directory may have, at the top or below.
func TestLoadRefuses(t *testing.T) {
	unsorted := &repb.NodeProperties{Properties: []*repb.NodeProperty{{Name: "b"}, {Name: "a"}}}
	for name, tc := range map[string]struct {
		m    *repb.Directory
		says string
	}{
		"G1 empty name":          {files(""), "is empty"},
		"G1 dot":                 {files("."), "is not a name"},
		"G1 dot dot":             {&repb.Directory{Directories: []*repb.DirectoryNode{dirNode("..")}}, "is not a name"},
		"G1 slash":               {&repb.Directory{Symlinks: []*repb.SymlinkNode{linkNode("a/b", "x")}}, "slash"},
		"G1 NUL":                 {files("a\x00b"), "NUL"},
		"G1 long":                {files(strings.Repeat("n", 256)), "256 bytes"},
		"G2 twice":               {files("a", "a"), "two entries"},
		"G2 file and directory":  {&repb.Directory{Files: files("a").Files, Directories: []*repb.DirectoryNode{dirNode("a")}}, "two entries"},
		"G2 file and symlink":    {&repb.Directory{Files: files("a").Files, Symlinks: []*repb.SymlinkNode{linkNode("a", "x")}}, "two entries"},
		"G2 directory, symlink":  {&repb.Directory{Directories: []*repb.DirectoryNode{dirNode("a")}, Symlinks: []*repb.SymlinkNode{linkNode("a", "x")}}, "two entries"},
		"G3 unsorted files":      {files("b", "a"), "not sorted"},
		"G3 unsorted dirs":       {&repb.Directory{Directories: []*repb.DirectoryNode{dirNode("b"), dirNode("a")}}, "not sorted"},
		"G3 unsorted symlinks":   {&repb.Directory{Symlinks: []*repb.SymlinkNode{linkNode("b", "x"), linkNode("a", "x")}}, "not sorted"},
		"G5 unsorted properties": {&repb.Directory{Files: []*repb.FileNode{{Name: "a", Digest: cas.SHA256.Empty().Proto(), NodeProperties: unsorted}}}, "properties"},
		"G5 of the directory":    {&repb.Directory{NodeProperties: unsorted}, "properties"},
		"G6 no file digest":      {&repb.Directory{Files: []*repb.FileNode{{Name: "a"}}}, "absent"},
		"G6 no directory digest": {&repb.Directory{Directories: []*repb.DirectoryNode{{Name: "a"}}}, "absent"},
		"G6 other function":      {&repb.Directory{Files: []*repb.FileNode{{Name: "a", Digest: cas.SHA1.Sum(nil).Proto()}}}, "digest is wrong"},
		"G6 garbled":             {&repb.Directory{Directories: []*repb.DirectoryNode{{Name: "a", Digest: &repb.Digest{Hash: "zz"}}}}, "digest is wrong"},
		"B12 size 0":             {&repb.Directory{Files: []*repb.FileNode{{Name: "a", Digest: &repb.Digest{Hash: cas.SHA256.Sum([]byte("x")).Hash()}}}}, "digest is wrong"},
		"G13 empty target":       {&repb.Directory{Symlinks: []*repb.SymlinkNode{linkNode("a", "")}}, "target is empty"},
		"G13 NUL in target":      {&repb.Directory{Symlinks: []*repb.SymlinkNode{linkNode("a", "x\x00")}}, "NUL"},
		"G13 endless target":     {&repb.Directory{Symlinks: []*repb.SymlinkNode{linkNode("a", strings.Repeat("x", 4096))}}, "4096 bytes"},
	} {
		t.Run(name, func(t *testing.T) { // REAPI F47
			s := newStore()
			bad := s.message(t, tc.m)
			_, err := tree.Load(t.Context(), s, bad, tree.Limits{})
			wantInvalid(t, err, "input root", bad.Hash(), tc.says)
			below := s.message(t, &repb.Directory{Directories: []*repb.DirectoryNode{{Name: "sub", Digest: bad.Proto()}}})
			_, err = tree.Load(t.Context(), s, below, tree.Limits{})
			wantInvalid(t, err, `input directory "sub"`, tc.says)
		})
	}
}

// REAPI G15, F46: bytes that are no Directory, also by their encoding (REAPI G1).
func TestLoadRefusesOtherBlobs(t *testing.T) {
	s := newStore()
	for _, data := range []string{"\xff\xff\xff", "\x0a\x05hello", "\x0a\x03\x0a\x01\xff"} {
		_, err := tree.Load(t.Context(), s, s.bytes(t, []byte(data)), tree.Limits{})
		wantInvalid(t, err, "not a Directory")
	}
	d := s.bytes(t, bytes.Repeat([]byte{'x'}, 100))
	_, err := tree.Load(t.Context(), s, d, tree.Limits{MaxDirectoryBytes: 99})
	wantInvalid(t, err, "larger than 99 bytes")
	if s.gets[d] != 0 {
		t.Error("a Directory that is too large was read")
	}
}

func TestLoadAccepts(t *testing.T) {
	s := newStore()
	mark := &repb.NodeProperties{Properties: []*repb.NodeProperty{{Name: "bazel_tool_input"}}, UnixMode: wrapperspb.UInt32(0o4777)}
	m := &repb.Directory{
		Files: []*repb.FileNode{ // REAPI G1: legal on Unix; REAPI G4: both cases
			fileNode("\n"), fileNode(" "), fileNode("-rf"), fileNode("Foo"), fileNode("\\"), fileNode("foo"), fileNode("ü"),
		},
		Directories: []*repb.DirectoryNode{dirNode(strings.Repeat("d", 255))},
		Symlinks:    []*repb.SymlinkNode{linkNode("abs", "/etc"), linkNode("dangling", "nowhere"), linkNode("up", "../../..")}, // REAPI G13
	}
	m.Files[0].NodeProperties = mark // REAPI G12
	data, err := proto.Marshal(m)
	must(t, err)
	data = append(data, "\xfa\x3f\x03new"...) // REAPI G15: field 1023
	root := s.bytes(t, data)
	g := load(t, s, root)
	if g.Nodes() != 12 {
		t.Errorf("%d nodes", g.Nodes())
	}
	// REAPI G13, A15: anywhere in the tree
	below := s.message(t, &repb.Directory{Directories: []*repb.DirectoryNode{{Name: "sub", Digest: root.Proto()}}})
	_, err = tree.Load(t.Context(), s, below, tree.Limits{NoAbsoluteSymlinks: true})
	wantInvalid(t, err, `"sub"`, `"abs"`, "absolute")
}

// REAPI F45, G9: all missing Directories that can be known, in one error.
func TestLoadMissing(t *testing.T) {
	checkLeaks(t)
	s := newStore()
	wrongSize := &repb.Digest{Hash: cas.SHA256.Sum([]byte("y")).Hash(), SizeBytes: 7}
	root := s.message(t, &repb.Directory{
		Files: []*repb.FileNode{fileNode("f")},
		Directories: []*repb.DirectoryNode{
			{Name: "a", Digest: cas.SHA256.Sum([]byte("a")).Proto()},
			{Name: "b", Digest: s.tree(t, dir{"g": "g"}).Proto()},
			{Name: "c", Digest: cas.SHA256.Sum([]byte("a")).Proto()},
			{Name: "d", Digest: wrongSize},
		},
	})
	g, err := tree.Load(t.Context(), s, root, tree.Limits{})
	var missing *cas.MissingError
	if !errors.As(err, &missing) || !errors.Is(err, cas.ErrNotFound) {
		t.Fatal(err)
	}
	if len(missing.Digests) != 2 || missing.Digests[0] != cas.SHA256.Sum([]byte("a")) || missing.Digests[1].Size() != 7 {
		t.Errorf("missing %v", missing.Digests)
	}
	if len(g.Files()) != 2 {
		t.Errorf("the files that are known: %v", g.Files())
	}
	if _, err := newCopier(t, s).Stage(t.Context(), g, t.TempDir(), tree.StageOptions{}); err == nil {
		t.Error("a graph with holes was staged")
	}
	_, err = tree.Load(t.Context(), s, cas.SHA256.Sum([]byte("nope")), tree.Limits{})
	if !errors.As(err, &missing) || len(missing.Digests) != 1 {
		t.Errorf("missing root: %v", err)
	}
}

func TestLoadStoreFails(t *testing.T) {
	s := newStore()
	root := s.tree(t, dir{"a": dir{"x": "x"}})
	s.fail = errors.New("disk on fire")
	_, err := tree.Load(t.Context(), s, root, tree.Limits{})
	if !errors.Is(err, s.fail) || errors.Is(err, tree.ErrInvalid) || errors.Is(err, cas.ErrNotFound) {
		t.Errorf("got %v", err)
	}
	s.fail = nil
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("client gone"))
	if _, err := tree.Load(ctx, s, root, tree.Limits{}); err == nil || !strings.Contains(err.Error(), "client gone") {
		t.Errorf("got %v", err)
	}
}

// REAPI G8: 2^40 paths of 40 Directories, refused by what they would become.
func TestLoadBomb(t *testing.T) {
	s := newStore()
	d := s.message(t, files("leaf"))
	for range 40 {
		d = s.message(t, &repb.Directory{Directories: []*repb.DirectoryNode{{Name: "a", Digest: d.Proto()}, {Name: "b", Digest: d.Proto()}}})
	}
	start := time.Now()
	_, err := tree.Load(t.Context(), s, d, tree.Limits{})
	wantInvalid(t, err, "more than 1000000")
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
}

// REAPI G8, B17: each limit, just met and just not.
func TestLoadLimits(t *testing.T) {
	s := newStore()
	root := s.tree(t, dir{"a": dir{"bc": dir{"def": "x"}, "l": link("x")}, "z": "z"}) // 6 nodes, depth 3, a/bc/def
	exact := tree.Limits{MaxNodes: 6, MaxDepth: 3, MaxPathLength: 8}
	if _, err := tree.Load(t.Context(), s, root, exact); err != nil {
		t.Fatal(err)
	}
	for says, lim := range map[string]tree.Limits{
		"more than 5":         {MaxNodes: 5},
		"deeper than 2":       {MaxDepth: 2},
		"more than 7 bytes":   {MaxPathLength: 7},
		"larger than 2 bytes": {MaxDirectoryBytes: 2},
	} {
		_, err := tree.Load(t.Context(), s, root, lim)
		wantInvalid(t, err, says)
	}
}

// REAPI G8, C28: a chain of 10,000 levels is refused at the limit, and takes no
// stack where it is allowed.
func TestLoadDeep(t *testing.T) {
	s := newStore()
	d := s.message(t, &repb.Directory{})
	for range 10_000 {
		d = s.message(t, &repb.Directory{Directories: []*repb.DirectoryNode{{Name: "d", Digest: d.Proto()}}})
	}
	_, err := tree.Load(t.Context(), s, d, tree.Limits{})
	wantInvalid(t, err, "deeper than 1024")
	if len(s.gets) > 1024 {
		t.Errorf("%d Directories were read before it was refused", len(s.gets))
	}
	_, err = tree.Load(t.Context(), s, d, tree.Limits{MaxDepth: 20_000})
	wantInvalid(t, err, "more than 4000 bytes")
}

// liar answers with what it was told, whatever the digest.
type liar map[cas.Digest][]byte

func (l liar) Get(_ context.Context, d cas.Digest, _ int64) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(l[d])), nil
}

// A cycle needs a broken hash, or a store that does not check; it must not hang.
func TestLoadCycle(t *testing.T) {
	a, b := cas.SHA256.Sum([]byte("a")), cas.SHA256.Sum([]byte("b"))
	to := func(d cas.Digest) []byte {
		data, err := proto.Marshal(&repb.Directory{Directories: []*repb.DirectoryNode{{Name: "next", Digest: d.Proto()}}})
		must(t, err)
		return data
	}
	size := int64(len(to(a)))
	a, err := cas.ParseDigest(cas.SHA256, a.Hash(), size)
	must(t, err)
	b, err = cas.ParseDigest(cas.SHA256, b.Hash(), size)
	must(t, err)
	_, err = tree.Load(t.Context(), liar{a: to(b), b: to(a)}, a, tree.Limits{})
	wantInvalid(t, err, "contains itself")
}

func TestLoaderCaches(t *testing.T) {
	checkLeaks(t)
	s := newStore()
	shared := dir{"x": dir{"y": "z"}}
	first, second := s.tree(t, dir{"shared": shared}), s.tree(t, dir{"new": "file", "shared": shared})
	l := tree.NewLoader(s, tree.LoaderOptions{CacheBytes: 1 << 20})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				if _, err := l.Load(context.Background(), first); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	before := len(s.gets)
	g, err := l.Load(t.Context(), second)
	must(t, err)
	if len(s.gets) != before+1 {
		t.Errorf("%d blobs were read for one new Directory", len(s.gets)-before)
	}
	if k, ok := g.Lookup("shared/x/y"); !ok || k != tree.KindFile {
		t.Errorf("shared/x/y is a %v", k)
	}
}

func TestLoaderCacheIsBounded(t *testing.T) {
	s := newStore()
	l := tree.NewLoader(s, tree.LoaderOptions{CacheBytes: 20_000})
	var roots []cas.Digest
	for i := range 100 {
		roots = append(roots, s.tree(t, dir{fmt.Sprint(i): "x"}))
		_, err := l.Load(t.Context(), roots[i])
		must(t, err)
	}
	for _, i := range []int{99, 0} { // the newest is there, the oldest not
		_, err := l.Load(t.Context(), roots[i])
		must(t, err)
	}
	if s.gets[roots[99]] != 1 || s.gets[roots[0]] != 2 {
		t.Errorf("newest read %d times, oldest %d times", s.gets[roots[99]], s.gets[roots[0]])
	}
}
