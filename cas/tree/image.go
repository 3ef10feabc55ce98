package tree

import (
	"cmp"
	"container/list"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/erofs"
)

// imageKey says what an image looks like.
type imageKey struct {
	root cas.Digest
	owners
}

// image is an input root as a mounted file system, which overlays have as their
// lower layer.
type image struct {
	key     imageKey
	dir     string // where it is mounted
	holding *holding
	bytes   int64

	ready chan struct{} // closed when it is mounted, or cannot be
	err   error         // why it cannot be

	// Guarded by the mutex of images.
	users int
	idle  *list.Element // nil while there are users
}

// make makes and mounts an image.
func (img *image) make(ctx context.Context, s *shelf, g *Graph) (err error) {
	if img.holding, err = s.hold(ctx, g); err != nil {
		return err
	}
	err = img.write(g)
	if err == nil {
		err = img.attach()
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(img.dir), img.holding.release())
	}
	return nil
}

func (img *image) file() string  { return filepath.Join(img.dir, "image") }
func (img *image) mount() string { return filepath.Join(img.dir, "mnt") }

func (img *image) write(g *Graph) error {
	if err := os.Mkdir(img.dir, 0o700); err != nil {
		return fmt.Errorf("make a place for an image: %w", err)
	}
	f, err := os.OpenFile(img.file(), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("make an image: %w", err)
	}
	img.bytes, err = newImageWriter(g, img).write().WriteTo(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write the image of %s: %w", g.root.subject(), spaceError(err))
	}
	return nil
}

// attach mounts what was written.
func (img *image) attach() error {
	var packs []string
	for _, p := range img.holding.packs {
		packs = append(packs, p.device.Name())
	}
	source := img.file()
	if img.holding.shelf.loops {
		device, err := openLoop(source)
		if err != nil {
			return err
		}
		defer device.Close() // the mount has it open
		source = device.Name()
	}
	if err := os.Mkdir(img.mount(), 0o700); err != nil {
		return fmt.Errorf("make a mount point: %w", err)
	}
	return mountOn(img.mount(), "erofs", imageOptions(source, packs...))
}

// detach unmounts an image. An overlay that is still there has a mount of its own.
func (img *image) detach() error {
	if err := unix.Unmount(img.mount(), unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
		return fmt.Errorf("unmount %s: %w", img.mount(), err)
	}
	return os.RemoveAll(img.dir)
}

// imageWriter turns a graph into an image.
type imageWriter struct {
	builder *erofs.Builder
	key     imageKey
	holding *holding
	devices map[*pack]int
	graph   *Graph
}

func newImageWriter(g *Graph, img *image) *imageWriter {
	w := &imageWriter{graph: g, key: img.key, holding: img.holding, devices: map[*pack]int{}}
	opts := erofs.Options{
		BlockSize: packBlock,
		Time:      inputTime,
		DirOwner:  erofs.Owner{UID: uint32(img.key.uid), GID: uint32(img.key.gid)},
		FileOwner: erofs.Owner{UID: uint32(img.key.rootUID), GID: uint32(img.key.rootGID)},
		DirMode:   0o755, FileMode: 0o444, ProgramMode: 0o555,
	}
	if img.key.writable {
		opts.FileOwner, opts.FileMode, opts.ProgramMode = opts.DirOwner, 0o644, 0o755
	}
	opts.Devices = img.holding.shelf.lengths(img.holding.packs)
	for i, p := range img.holding.packs {
		w.devices[p] = i
	}
	w.builder = erofs.NewBuilder(opts, g.Nodes())
	return w
}

// lengths are those of packs, in blocks.
func (s *shelf) lengths(packs []*pack) []int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	lengths := make([]int64, len(packs))
	for i, p := range packs {
		lengths[i] = p.blocks
	}
	return lengths
}

// write goes through the tree, one level of directories after the other.
func (w *imageWriter) write() *erofs.Builder {
	type at struct {
		node *node
		dir  erofs.Dir
	}
	queue := []at{{w.graph.root, w.builder.Root()}}
	for i := 0; i < len(queue); i++ { // grows as it goes
		w.builder.Begin(queue[i].dir)
		w.entries(queue[i].node, func(n *node, d erofs.Dir) { queue = append(queue, at{n, d}) })
		w.builder.End()
	}
	return w.builder
}

// entries adds what is in a directory: its three sorted lists, merged.
func (w *imageWriter) entries(n *node, child func(*node, erofs.Dir)) {
	slots := w.holding.slots[n.index]
	var f, d, l int
	for f < len(n.files) || d < len(n.dirs) || l < len(n.links) {
		switch least(n, f, d, l) {
		case KindFile:
			w.builder.File(n.files[f].name, w.file(n.files[f], slots[f]))
			f++
		case KindDirectory:
			child(n.children[d], w.builder.Dir(n.dirs[d].name))
			d++
		case KindSymlink:
			w.builder.Symlink(n.links[l].name, n.links[l].target)
			l++
		}
	}
}

// least says which of the three lists has the next name.
func least(n *node, f, d, l int) Kind {
	kind, name := Kind(0), ""
	next := func(k Kind, candidate string) {
		if kind == 0 || cmp.Less(candidate, name) {
			kind, name = k, candidate
		}
	}
	if f < len(n.files) {
		next(KindFile, n.files[f].name)
	}
	if d < len(n.dirs) {
		next(KindDirectory, n.dirs[d].name)
	}
	if l < len(n.links) {
		next(KindSymlink, n.links[l].name)
	}
	return kind
}

func (w *imageWriter) file(e fileEntry, p *slot) erofs.File {
	f := erofs.File{Size: e.digest.Size(), Program: e.executable}
	if e.wish != nil {
		a := e.attributes(w.key.owners)
		f.Attributes = &erofs.Attributes{
			Owner: erofs.Owner{UID: uint32(a.uid), GID: uint32(a.gid)}, Mode: uint16(a.mode), Time: a.mtime.Sec, Nanos: uint32(a.mtime.Nsec),
		}
	}
	switch {
	case p == nil: // it is empty
	case p.pack != nil:
		f.Device, f.Block = w.devices[p.pack], p.block
	default:
		f.Redirect = "/" + p.link
	}
	return f
}
