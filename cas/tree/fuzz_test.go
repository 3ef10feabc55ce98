package tree_test

import (
	"context"
	"errors"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/tree"
)

// FuzzLoad: any bytes are a valid Directory or an ErrInvalid, and a valid one
// can be staged.
func FuzzLoad(f *testing.F) {
	for _, m := range []*repb.Directory{
		{},
		files("a", "b"),
		files("..", "a/b", ""),
		{Symlinks: []*repb.SymlinkNode{linkNode("a", "/x"), linkNode("b", "../..")}},
		{Directories: []*repb.DirectoryNode{dirNode("d")}, Files: []*repb.FileNode{{Name: "e", Digest: cas.SHA256.Empty().Proto(), IsExecutable: true}}},
		{NodeProperties: &repb.NodeProperties{Properties: []*repb.NodeProperty{{Name: "x"}}}},
	} {
		data, err := proto.Marshal(m)
		must(f, err)
		f.Add(data)
	}
	f.Add([]byte("\xff\xfe"))
	s := newStore()
	must(f, s.Put(context.Background(), cas.SHA256.Content([]byte("x"))))
	c := newCopier(f, s)
	f.Fuzz(func(t *testing.T, data []byte) {
		g, err := tree.Load(t.Context(), s, s.bytes(t, data), tree.Limits{MaxNodes: 1000})
		if errors.Is(err, tree.ErrInvalid) || errors.Is(err, cas.ErrNotFound) {
			return
		}
		must(t, err)
		dir := filepath.Join(t.TempDir(), "root")
		staged, err := c.Stage(t.Context(), g, dir, tree.StageOptions{AbsoluteSymlinks: true})
		if errors.Is(err, cas.ErrNotFound) {
			return
		}
		must(t, err)
		if n := len(snapshot(t, dir)); n != g.Nodes()-1 {
			t.Errorf("%d entries of %d nodes", n, g.Nodes()-1)
		}
		must(t, staged.Remove())
	})
}

// FuzzParseOutputs: what is accepted stays in the input root, and Prepare and
// Capture cope with it.
func FuzzParseOutputs(f *testing.F) {
	for _, p := range []string{"", "a", "a/b", "../a", "..", "a/..", "/a", "a//b", "./a", "a\x00", "\xff", "...", "a/../../b", strings.Repeat("x/", 3000)} {
		f.Add("w", p, "b")
		f.Add(p, "b", p)
	}
	f.Fuzz(func(t *testing.T, wd, first, second string) {
		for _, cmd := range []*repb.Command{
			{WorkingDirectory: wd, OutputPaths: []string{first, second}},
			{WorkingDirectory: wd, OutputFiles: []string{first}, OutputDirectories: []string{second}},
		} {
			out, err := tree.ParseOutputs(cmd, cas.SHA256)
			if err != nil {
				wantInvalid(t, err)
				continue
			}
			for _, p := range []string{first, second} {
				if up := path.Join(out.WorkingDirectory(), p); up == ".." || strings.HasPrefix(up, "../") || path.IsAbs(p) {
					t.Fatalf("%q in %q was accepted", p, wd)
				}
			}
			outside := t.TempDir()
			root := filepath.Join(outside, "root")
			write(t, filepath.Join(root, "w/b"), "x", 0o644)
			if err := tree.Prepare(root, out, tree.StageOptions{}); err != nil {
				wantInvalid(t, err)
			}
			if _, err := tree.Capture(t.Context(), newStore(), root, out); err != nil && !errors.Is(err, tree.ErrOutput) {
				t.Fatal(err)
			}
			if left := snapshot(t, outside); !strings.HasPrefix(left[len(left)-1], "root") || !strings.HasPrefix(left[0], "root ") {
				t.Fatalf("something outside the root: %q", left)
			}
		}
	})
}
