package tree

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"

	"github.com/hearth-build/hearth/cas"
)

// MounterOptions configure a Mounter.
type MounterOptions struct {
	// Dir is for the Mounter alone: what is there before is removed. It is best
	// on the store's file system, so that large files can be links to blobs.
	Dir string
	// LoopDevices are used by kernels that mount no files, as ProbeMounter says.
	LoopDevices bool
	// TrashDir and MaxTrash are as in CopierOptions.
	TrashDir string
	MaxTrash int
	// CopyNodes is up to how many files, directories and symbolic links an input
	// root is made by hand, if its files are small: that takes less time than to
	// mount it, and nobody sees a difference. 0: 32; negative: never.
	CopyNodes int
	// KeepImages is how many images stay mounted that no action uses; 0: 64.
	KeepImages int
	// PackBytes bounds images, and copies of small blobs, as far as they are not
	// in use; 0: 1 GiB.
	PackBytes int64
	// LinkBytes bounds the large blobs that images keep the store from evicting,
	// as far as no action uses them; 0: 16 GiB.
	LinkBytes int64
	// Log gets what could not be cleaned up; nil: slog.Default().
	Log *slog.Logger
}

// Mounter is the Stager for kernels and users that can mount: an input root is
// an overlay, whose lower layer is an image of the names with the store's own
// blobs as contents, and whose upper layer takes what the action writes. It
// takes the same time for any number of files, if the tree was there before.
type Mounter struct {
	copier    *Copier // of small input roots
	copyNodes int
	shelf     *shelf
	images    *images
	dir       string

	uppers atomic.Int64 // made so far
}

var _ Stager = (*Mounter)(nil)

// NewMounter makes a Mounter from the store's blobs. What an earlier process
// left in opts.Dir goes away first. It works where ProbeMounter finds nothing.
func NewMounter(store cas.Store, opts MounterOptions) (*Mounter, error) {
	copier := NewCopier(store, CopierOptions{TrashDir: opts.TrashDir, MaxTrash: opts.MaxTrash, Log: opts.Log})
	m := &Mounter{copier: copier, copyNodes: cmp.Or(opts.CopyNodes, 32), dir: opts.Dir}
	if err := m.open(store, opts); err != nil {
		return nil, fmt.Errorf("prepare the directory for input roots: %w", errors.Join(err, copier.Close()))
	}
	return m, nil
}

func (m *Mounter) open(store cas.Store, opts MounterOptions) (err error) {
	if _, err := UnmountBelow(m.dir); err != nil {
		return err
	}
	if err := m.copier.trash.discard(m.dir); err != nil {
		return err
	}
	if err := os.MkdirAll(m.dir, 0o700); err != nil {
		return err
	}
	// The kernel shows real names.
	if m.dir, err = filepath.EvalSymlinks(m.dir); err != nil {
		return err
	}
	if len(m.dir) > maxMounterDir {
		return fmt.Errorf("%s is too long: the kernel takes no more than %d bytes", m.dir, maxMounterDir)
	}
	imagesDir := filepath.Join(m.dir, "images")
	if err := errors.Join(os.Mkdir(imagesDir, 0o700), os.Mkdir(m.uppersDir(), 0o700)); err != nil {
		return err
	}
	if m.shelf, err = newShelf(store, m.dir, opts.LoopDevices); err != nil {
		return err
	}
	m.images = newImages(imagesDir, m.shelf, m.copier.trash, imageLimits{
		images: cmp.Or(opts.KeepImages, 64),
		packs:  cmp.Or(opts.PackBytes, 1<<30),
		links:  cmp.Or(opts.LinkBytes, 16<<30),
	})
	return nil
}

// copyBytes is what the files of an input root that is copied may have together.
const copyBytes = 256 << 10

// maxMounterDir leaves room for what is below in the 255 bytes that an option of
// a mount can have.
const maxMounterDir = 200

func (m *Mounter) uppersDir() string { return filepath.Join(m.dir, "upper") }

// Close unmounts all images, waits until all removed trees are deleted, and
// says what could not be done. No input root may be staged any more.
func (m *Mounter) Close() error {
	var busy error
	err := m.images.shrink(imageLimits{packs: -1})
	if n := m.images.inUse(); n > 0 {
		busy = fmt.Errorf("%d input roots are still in use", n)
	}
	return errors.Join(err, m.copier.Close(), busy, m.shelf.close())
}

// Forget unmounts all images that no action uses, and does what Copier.Forget does.
func (m *Mounter) Forget() error {
	return errors.Join(m.images.shrink(imageLimits{packs: -1}), m.copier.Forget())
}

// Stage implements Stager.
func (m *Mounter) Stage(ctx context.Context, g *Graph, dir string, opts StageOptions) (Staged, error) {
	if g.Nodes() <= m.copyNodes && g.bytes <= copyBytes {
		opts.AllowLinks = false // whose time is not inputTime
		return m.copier.Stage(ctx, g, dir, opts)
	}
	if err := g.stageable(opts); err != nil {
		return nil, err
	}
	img, err := m.images.get(ctx, g, imageKey{root: g.Root(), owners: opts.owners()})
	if err != nil {
		return nil, fmt.Errorf("stage input root: %w", err)
	}
	s := &mounted{mounter: m, graph: g, image: img, dir: dir, upper: filepath.Join(m.uppersDir(), strconv.FormatInt(m.uppers.Add(1), 10))}
	if err := s.mount(opts); err != nil {
		return nil, errors.Join(fmt.Errorf("stage input root: %w", err), os.RemoveAll(s.upper), m.images.put(img))
	}
	return s, nil
}
