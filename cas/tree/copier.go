package tree

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/hearth-build/hearth/cas"
)

// CopierOptions configure a Copier. The zero value is ready.
type CopierOptions struct {
	// Workers that fill directories of one input root at a time; 0: 4.
	Workers int
	// TrashDir is where removed trees are moved, to be deleted in the
	// background: best a directory on the same file system that no action sees.
	// It is made if absent. Empty, or on another mount than the tree: a
	// directory TrashName beside the tree.
	TrashDir string
	// MaxTrash bounds the trees that wait to be deleted; with more, Remove
	// deletes itself; 0: 64.
	MaxTrash int
	// Log gets what could not be deleted; nil: slog.Default().
	Log *slog.Logger
}

// Copier is the Stager that works on every file system: files are hard links
// to the store's blobs where that is allowed, else copies.
type Copier struct {
	store   cas.Store
	linker  cas.Linker // nil: copies only
	workers int
	trash   *trash

	cannotClone atomic.Bool  // the file system does not share blocks
	forgets     atomic.Int64 // how often Forget was called
}

var _ Stager = (*Copier)(nil)

// NewCopier makes a Copier from the store's blobs. It deletes trees in the
// background until it is closed.
func NewCopier(store cas.Store, opts CopierOptions) *Copier {
	linker, _ := store.(cas.Linker)
	return &Copier{
		store:   store,
		linker:  linker,
		workers: cmp.Or(opts.Workers, 4),
		trash:   newTrash(opts.TrashDir, cmp.Or(opts.MaxTrash, 64), cmp.Or(opts.Log, slog.Default())),
	}
}

// Close waits until all removed trees are deleted and says what could not be.
// Input roots that are still staged can be removed after it.
func (c *Copier) Close() error { return c.trash.close() }

// Forget makes workspaces link and copy all of their files again. It is called when
// the store has lost something that it had: a blob that was damaged must not be used
// for the next action.
func (c *Copier) Forget() error {
	c.forgets.Add(1)
	return nil
}

// Stage implements Stager.
func (c *Copier) Stage(ctx context.Context, g *Graph, dir string, opts StageOptions) (Staged, error) {
	if err := g.stageable(opts); err != nil {
		return nil, err
	}
	if p, ok := c.store.(cas.Prefetcher); ok {
		if err := p.Prefetch(ctx, g.Files()); err != nil {
			return nil, fmt.Errorf("fetch input files: %w", err)
		}
	}
	root, err := makeRoot(dir)
	if err != nil {
		return nil, err
	}
	defer unix.Close(root)
	s := &staging{copier: c, opts: opts, owners: opts.owners(), root: root}
	if err := s.run(ctx, g); err != nil {
		return nil, errors.Join(c.allMissing(ctx, g, err), c.trash.discard(dir))
	}
	return &stagedTree{trash: c.trash, dir: dir}, nil
}

// stageable says what is against an input root.
func (g *Graph) stageable(opts StageOptions) error {
	if g.missing {
		return errors.New("cannot stage an input root with missing Directories")
	}
	if g.absolute != "" && !opts.AbsoluteSymlinks {
		return &InvalidError{Subject: "input symlink " + quote(g.absolute), Reason: "has an absolute target, which is disallowed here"}
	}
	return nil
}

// allMissing turns the news that one blob is missing into the list of all.
func (c *Copier) allMissing(ctx context.Context, g *Graph, err error) error {
	var one *lostBlob
	if !errors.As(err, &one) {
		return fmt.Errorf("stage input root: %w", err)
	}
	missing, err := c.store.FindMissing(ctx, g.Files())
	if err != nil {
		return fmt.Errorf("find out which input files are missing besides %v: %w", one.digest, err)
	}
	if !slices.Contains(missing, one.digest) {
		missing = append(missing, one.digest)
	}
	return &cas.MissingError{Digests: missing}
}

// makeRoot makes the directory of an input root, or takes an empty one.
func makeRoot(dir string) (int, error) {
	dir, err := placeOf(dir)
	if err != nil {
		return -1, err
	}
	root, err := openRoot(dir)
	if err == unix.ENOENT {
		if err := unix.Mkdir(dir, 0o755); err != nil {
			return -1, fmt.Errorf("make input root %s: %w", dir, err)
		}
		root, err = openRoot(dir)
	}
	if err != nil {
		return -1, fmt.Errorf("open input root %s: %w", dir, err)
	}
	err = readDir(root, func(e dirent) error {
		return fmt.Errorf("input root %s is not empty: it has %q", dir, e.name)
	})
	if err == nil {
		err = unix.UtimesNanoAt(unix.AT_FDCWD, dir, nil, unix.AT_SYMLINK_NOFOLLOW) // those of a new one
	}
	if err != nil {
		unix.Close(root)
		return -1, err
	}
	return root, nil
}

// stagedTree is an input root that a Copier made.
type stagedTree struct {
	trash *trash
	dir   string
}

var _ Staged = (*stagedTree)(nil)

// Remove implements Staged.
func (t *stagedTree) Remove() error { return t.trash.empty(t.dir) }
