package tree_test

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"testing"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/tree"
)

// graphModel is a graph of Directories that bytes describe, and what is known of
// it without loading it.
type graphModel struct {
	digests []cas.Digest
	nodes   []int // entries on disk below each, itself included; capped
	depth   []int
	below   []map[cas.Digest]bool // all Directories below each, itself included; false: missing
}

const (
	maxModelNodes = 500
	maxModelDepth = 20
)

// newGraphModel reads one Directory after the other: how many children it has, and
// which of those before it they are. Each has a file that tells it from others.
func newGraphModel(t *testing.T, s *store, program []byte) *graphModel {
	m := &graphModel{}
	next := func() int {
		if len(program) == 0 {
			return 0
		}
		b := program[0]
		program = program[1:]
		return int(b)
	}
	const most = 40
	for i := 0; i == 0 || len(program) > 0 && i < most; i++ {
		d := &repb.Directory{Files: []*repb.FileNode{{Name: fmt.Sprint("file of ", i), Digest: cas.SHA256.Sum([]byte("x")).Proto()}}}
		nodes, depth, below := 2, 1, map[cas.Digest]bool{}
		for c := range next() % 4 {
			child := cas.SHA256.Sum(fmt.Append(nil, "missing ", i, c))
			if pick := next(); i > 0 && pick%8 != 7 {
				j := pick % i
				child = m.digests[j]
				nodes, depth = min(nodes+m.nodes[j], 2*maxModelNodes), max(depth, 1+m.depth[j])
				maps.Copy(below, m.below[j])
			} else {
				nodes, depth = nodes+1, max(depth, 2)
				below[child] = false
			}
			d.Directories = append(d.Directories, &repb.DirectoryNode{Name: fmt.Sprint("child ", c), Digest: child.Proto()})
		}
		digest := s.message(t, d)
		below[digest] = true
		m.digests, m.nodes, m.depth, m.below = append(m.digests, digest), append(m.nodes, nodes), append(m.depth, depth), append(m.below, below)
	}
	return m
}

// FuzzGraph: a graph of any form, with subtrees that are shared and Directories
// that are missing, is what its parts say, is refused if it is too much, and names
// all that is missing otherwise. REAPI C26, C28, F44, G4
func FuzzGraph(f *testing.F) {
	f.Add([]byte{0})
	f.Add([]byte{0, 1, 0, 1, 1, 2, 0, 2})       // a chain, and a root with two children
	f.Add([]byte{0, 2, 0, 0, 2, 1, 1, 2, 2, 2}) // each level twice
	f.Add([]byte{2, 7, 7, 1, 0, 3, 0, 1, 7})    // missing ones
	chain, bush := []byte{0}, []byte{0}
	for i := range 30 {
		chain = append(chain, 1, byte(i))
		bush = append(bush, 3, byte(i), byte(i), byte(i))
	}
	f.Add(chain)
	f.Add(bush)
	f.Fuzz(func(t *testing.T, program []byte) {
		s := newStore()
		s.bytes(t, []byte("x"))
		m := newGraphModel(t, s, program)
		root := len(m.digests) - 1
		var missing int
		for _, present := range m.below[root] {
			if !present {
				missing++
			}
		}
		g, err := tree.Load(t.Context(), s, m.digests[root], tree.Limits{MaxNodes: maxModelNodes, MaxDepth: maxModelDepth})
		var lost *cas.MissingError
		switch {
		case m.nodes[root] > maxModelNodes || m.depth[root] > maxModelDepth:
			if !errors.Is(err, tree.ErrInvalid) {
				t.Errorf("%d entries, %d deep: %v", m.nodes[root], m.depth[root], err)
			}
			return
		case missing > 0:
			if !errors.As(err, &lost) || len(lost.Digests) != missing {
				t.Fatalf("%d are missing: %v", missing, err)
			}
			for _, d := range lost.Digests {
				if present, known := m.below[root][d]; present || !known {
					t.Errorf("%v is said to be missing", d)
				}
			}
			return
		case err != nil || g.Nodes() != m.nodes[root] || len(g.Directories()) != len(m.below[root]):
			t.Fatalf("%d entries, %d Directories: %v", m.nodes[root], len(m.below[root]), err)
		}
		dir := filepath.Join(t.TempDir(), "root")
		staged, err := newCopier(t, s).Stage(t.Context(), g, dir, tree.StageOptions{})
		must(t, err)
		if n := len(snapshot(t, dir)); n != m.nodes[root]-1 {
			t.Errorf("%d entries of %d", n, m.nodes[root]-1)
		}
		must(t, staged.Remove())
	})
}
