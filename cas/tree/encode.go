package tree

import (
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"

	"github.com/hearth-build/hearth/cas"
)

// encode makes the canonical Directory message of d, whose files and children
// have digests.
func (c *capture) encode(d *outDir) error {
	m := &repb.Directory{NodeProperties: c.properties(d.meta)}
	for _, f := range d.files {
		m.Files = append(m.Files, &repb.FileNode{
			Name:           f.name,
			Digest:         f.digest.Proto(),
			IsExecutable:   f.meta.executable(),
			NodeProperties: c.properties(f.meta),
		})
	}
	for _, sub := range d.dirs {
		m.Directories = append(m.Directories, &repb.DirectoryNode{Name: sub.name, Digest: sub.digest.Proto()})
	}
	for _, l := range d.links {
		m.Symlinks = append(m.Symlinks, &repb.SymlinkNode{Name: l.name, Target: l.target, NodeProperties: c.properties(l.meta)})
	}
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode output directory %s: %w", quote(d.path), err)
	}
	d.data, d.content = data, c.out.function.Content(data)
	d.digest = d.content.Digest()
	return nil
}

func (m meta) executable() bool { return m.mode&0o111 != 0 }

// properties returns the node properties that the Command asked for, or nil.
func (c *capture) properties(m meta) *repb.NodeProperties {
	if !c.out.mtime && !c.out.unixMode {
		return nil
	}
	p := &repb.NodeProperties{}
	if c.out.mtime {
		p.Mtime = &timestamppb.Timestamp{Seconds: m.mtime.Sec, Nanos: int32(m.mtime.Nsec)}
	}
	if c.out.unixMode {
		p.UnixMode = wrapperspb.UInt32(m.mode &^ unix.S_IFMT)
	}
	return p
}

// subtree returns the distinct directories of a tree, the root first and every
// parent before its children. The order depends on the content alone.
func subtree(root *outDir) []*outDir {
	seen := map[cas.Digest]bool{}
	var postorder []*outDir
	var visit func(d *outDir) // as deep as a path can be, see tooLong
	visit = func(d *outDir) {
		seen[d.digest] = true
		for _, sub := range d.dirs {
			if !seen[sub.digest] {
				visit(sub)
			}
		}
		postorder = append(postorder, d)
	}
	visit(root)
	slices.Reverse(postorder)
	return postorder
}

// encodeTree makes a Tree message of encoded directories. Written by hand, its
// records have exactly the bytes whose digests the Directories name.
func encodeTree(dirs []*outDir) []byte {
	size := 0
	for _, d := range dirs {
		size += protowire.SizeTag(1) + protowire.SizeBytes(len(d.data))
	}
	const root, children = protowire.Number(1), protowire.Number(2)
	field, data := root, make([]byte, 0, size)
	for _, d := range dirs {
		data = protowire.AppendTag(data, field, protowire.BytesType)
		data = protowire.AppendBytes(data, d.data)
		field = children
	}
	return data
}

// result lists what was found, and gives the upload the blobs that make it up.
func (c *capture) result(u *upload) *repb.ActionResult {
	r := &repb.ActionResult{}
	for _, f := range c.found {
		switch {
		case f.file != nil:
			r.OutputFiles = append(r.OutputFiles, &repb.OutputFile{
				Path:           f.path,
				Digest:         f.file.digest.Proto(),
				IsExecutable:   f.file.meta.executable(),
				NodeProperties: c.properties(f.file.meta),
			})
		case f.dir != nil:
			r.OutputDirectories = append(r.OutputDirectories, c.resultDirectory(u, f))
		case f.link != nil:
			c.addLink(r, f)
		}
	}
	for _, f := range c.files {
		u.file(f)
	}
	return r
}

func (c *capture) resultDirectory(u *upload, f found) *repb.OutputDirectory {
	dirs := subtree(f.dir)
	tree := c.out.function.Content(encodeTree(dirs))
	u.bytes(tree)
	o := &repb.OutputDirectory{
		Path:                  f.path,
		TreeDigest:            tree.Digest().Proto(),
		IsTopologicallySorted: true,
	}
	if c.out.directories {
		for _, d := range dirs {
			u.bytes(d.content)
		}
		o.RootDirectoryDigest = f.dir.digest.Proto()
	}
	return o
}

// addLink lists a symbolic link where the client looks for it: it either knows
// output_symlinks, or the list by the kind that it declared.
func (c *capture) addLink(r *repb.ActionResult, f found) {
	l := &repb.OutputSymlink{Path: f.path, Target: f.link.target, NodeProperties: c.properties(f.link.meta)}
	switch f.want {
	case wantAny:
		r.OutputSymlinks = append(r.OutputSymlinks, l)
	case wantFile:
		//nolint:staticcheck // Deprecated field that clients of API 2.0 read.
		r.OutputFileSymlinks = append(r.OutputFileSymlinks, l)
	case wantDirectory:
		//nolint:staticcheck // Deprecated field that clients of API 2.0 read.
		r.OutputDirectorySymlinks = append(r.OutputDirectorySymlinks, l)
	}
}
