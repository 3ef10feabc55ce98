package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"path"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"

	"github.com/hearth-build/hearth/cas"
)

// benchTree is a generated input root: directories of files, in groups of
// directories.
type benchTree struct {
	root  cas.Digest
	size  int
	files []benchFile
	dirs  []benchDir // that hold files
	stale []int      // files to be uploaded
}

type benchFile struct {
	seed   uint64
	digest cas.Digest
}

type benchDir struct {
	files  []int
	digest cas.Digest
	stale  bool
}

const (
	// minTreeFile leaves room for what makes a file different from others.
	minTreeFile = 32
	// treeGroup is how many directories are together in another.
	treeGroup = 25
)

func newBenchTree(files, directories, size int) *benchTree {
	t := &benchTree{size: size, files: make([]benchFile, files), dirs: make([]benchDir, directories)}
	for i := range files {
		d := &t.dirs[i%directories]
		d.files = append(d.files, i)
		t.change(i)
	}
	for i := range t.dirs {
		t.dirs[i].stale = true // also those that stay empty
	}
	return t
}

// change gives a file other contents.
func (t *benchTree) change(i int) {
	t.files[i].seed = rand.Uint64()
	t.dirs[i%len(t.dirs)].stale = true
	t.stale = append(t.stale, i)
}

// contents are what a file has: text with a beginning of its own.
func (t *benchTree) contents(i int) []byte {
	data := fmt.Appendf(make([]byte, 0, t.size), "%019d\n", t.files[i].seed>>1)
	random := rand.NewPCG(t.files[i].seed, 0)
	for len(data) < t.size {
		data = binary.LittleEndian.AppendUint64(data, random.Uint64())
	}
	return data[:t.size]
}

// path is where a file is.
func (t *benchTree) path(i int) string {
	d := i % len(t.dirs)
	return path.Join(groupName(d/treeGroup), dirName(d%treeGroup), fileName(i/len(t.dirs)))
}

func groupName(i int) string { return fmt.Sprintf("group-%04d", i) }
func dirName(i int) string   { return fmt.Sprintf("package-%02d", i) }
func fileName(i int) string  { return fmt.Sprintf("file-%05d.h", i) }

// upload stores what was changed, and finds the digest of the root.
func (t *benchTree) upload(ctx context.Context, to cas.Putter) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(256) // which the client sends together
	put := func(c *cas.Content) { group.Go(func() error { return to.Put(ctx, c) }) }
	for _, i := range t.stale {
		c := cas.SHA256.Content(t.contents(i))
		t.files[i].digest = c.Digest()
		put(c)
	}
	t.stale = nil
	err := t.uploadDirs(put)
	if werr := group.Wait(); werr != nil {
		return fmt.Errorf("upload the tree: %w", werr)
	}
	return err
}

func (t *benchTree) uploadDirs(put func(*cas.Content)) error {
	root, group := &repb.Directory{}, &repb.Directory{}
	for i := range t.dirs {
		d := &t.dirs[i]
		if d.stale {
			m := &repb.Directory{}
			for j, file := range d.files {
				m.Files = append(m.Files, &repb.FileNode{Name: fileName(j), Digest: t.files[file].digest.Proto()})
			}
			c, err := directoryContent(m)
			if err != nil {
				return err
			}
			d.digest, d.stale = c.Digest(), false
			put(c)
		}
		group.Directories = append(group.Directories, &repb.DirectoryNode{Name: dirName(i % treeGroup), Digest: d.digest.Proto()})
		if len(group.Directories) < treeGroup && i < len(t.dirs)-1 {
			continue
		}
		c, err := directoryContent(group)
		if err != nil {
			return err
		}
		put(c)
		root.Directories = append(root.Directories, &repb.DirectoryNode{Name: groupName(i / treeGroup), Digest: c.Digest().Proto()})
		group = &repb.Directory{}
	}
	c, err := directoryContent(root)
	if err != nil {
		return err
	}
	t.root = c.Digest()
	put(c)
	return nil
}

func directoryContent(m *repb.Directory) (*cas.Content, error) {
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return nil, err
	}
	return cas.SHA256.Content(data), nil
}
