package tree_test

import (
	"fmt"
	"path/filepath"
	"testing"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/tree"
)

// big is the tree that hearth is measured with: 10,000 files of 1 KiB, all
// different, in 500 directories.
func big() dir {
	root := dir{}
	for i := range 20 {
		middle := dir{}
		for j := range 24 {
			middle[fmt.Sprintf("package-%02d", j)] = leaf(fmt.Sprintf("%d/%d", i, j), 20)
		}
		root[fmt.Sprintf("group-%02d", i)] = middle
	}
	root["more"] = leaf("more", 400)
	return root
}

func leaf(seed string, n int) dir {
	d := dir{}
	for i := range n {
		d[fmt.Sprintf("file-%03d.h", i)] = fmt.Sprintf("%1024s", fmt.Sprint(seed, "#", i))
	}
	return d
}

func BenchmarkLoad(b *testing.B) {
	s := newStore()
	root := s.tree(b, big())
	for name, cache := range map[string]int64{"cold": 0, "cached": 64 << 20} {
		b.Run(name, func(b *testing.B) {
			l := tree.NewLoader(s, tree.LoaderOptions{CacheBytes: cache})
			for b.Loop() {
				g, err := l.Load(b.Context(), root)
				must(b, err)
				if len(g.Files()) != 10_000 {
					b.Fatal(len(g.Files()))
				}
			}
		})
	}
}

func BenchmarkStage(b *testing.B) {
	for _, links := range []bool{true, false} {
		for _, workers := range []int{1, 2, 4} {
			b.Run(fmt.Sprintf("links=%v/workers=%d", links, workers), func(b *testing.B) {
				benchmarkStage(b, links, workers)
			})
		}
	}
}

func benchmarkStage(b *testing.B, links bool, workers int) {
	s := newLinkStore(b)
	g := load(b, s, s.tree(b, big()))
	c := tree.NewCopier(s, tree.CopierOptions{Workers: workers})
	base := b.TempDir()
	opts := nobodys()
	opts.AllowLinks = links
	warm, err := c.Stage(b.Context(), g, filepath.Join(base, "warm"), opts)
	must(b, err)
	must(b, warm.Remove())
	must(b, c.Close()) // so that nothing is deleted in the background below
	for b.Loop() {
		staged, err := c.Stage(b.Context(), g, filepath.Join(base, "root"), opts)
		must(b, err)
		b.StopTimer()
		must(b, staged.Remove())
		b.StartTimer()
	}
}

// BenchmarkStageAgain is a whole turn with an input root that was there before,
// by its number of files: where mounting begins to pay.
func BenchmarkStageAgain(b *testing.B) {
	opts := nobodys()
	opts.AllowLinks = false
	for _, files := range []int{1, 10, 30, 100, 300} {
		s := newLinkStore(b)
		g := load(b, s, s.tree(b, leaf("x", files)))
		for name, stager := range map[string]tree.Stager{"copier": newCopier(b, s), "mounter": newMounter(b, s, tree.MounterOptions{})} {
			b.Run(fmt.Sprintf("files=%d/%s", files, name), func(b *testing.B) {
				root := filepath.Join(b.TempDir(), "root")
				for b.Loop() {
					staged, err := stager.Stage(b.Context(), g, root, opts)
					must(b, err)
					must(b, staged.Remove())
				}
			})
		}
	}
}

// BenchmarkStageChanged is an input root of which one file is new.
func BenchmarkStageChanged(b *testing.B) {
	s := newLinkStore(b)
	d := big()
	var graphs []*tree.Graph
	for i := range 100 {
		d["changed"] = fmt.Sprint(i)
		graphs = append(graphs, load(b, s, s.tree(b, d)))
	}
	m := newMounter(b, s, tree.MounterOptions{KeepImages: 1})
	root := filepath.Join(b.TempDir(), "root")
	for i := 0; b.Loop(); i++ {
		staged, err := m.Stage(b.Context(), graphs[i%len(graphs)], root, nobodys())
		must(b, err)
		must(b, staged.Remove())
	}
}

// BenchmarkRemove is the work of the background; what the action waits for is
// one rename.
func BenchmarkRemove(b *testing.B) {
	for _, queued := range []bool{true, false} {
		b.Run(fmt.Sprintf("queued=%v", queued), func(b *testing.B) {
			s := newLinkStore(b)
			g := load(b, s, s.tree(b, big()))
			c := tree.NewCopier(s, tree.CopierOptions{MaxTrash: 1000})
			if !queued {
				must(b, c.Close())
			}
			base := b.TempDir()
			for b.Loop() {
				b.StopTimer()
				staged, err := c.Stage(b.Context(), g, filepath.Join(base, "root"), nobodys())
				must(b, err)
				b.StartTimer()
				must(b, staged.Remove())
			}
			must(b, c.Close())
		})
	}
}

func BenchmarkCapture(b *testing.B) {
	source := newStore()
	root := filepath.Join(b.TempDir(), "root")
	_, err := newCopier(b, source).Stage(b.Context(), load(b, source, source.tree(b, big())), root, tree.StageOptions{})
	must(b, err)
	out, err := tree.ParseOutputs(&repb.Command{OutputPaths: []string{"", "more/file-000.h"}}, cas.SHA256)
	must(b, err)
	b.Run("new", func(b *testing.B) {
		for b.Loop() {
			_, err := tree.Capture(b.Context(), newStore(), root, out)
			must(b, err)
		}
	})
	b.Run("present", func(b *testing.B) {
		for b.Loop() {
			_, err := tree.Capture(b.Context(), source, root, out)
			must(b, err)
		}
	})
}
