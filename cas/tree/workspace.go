package tree

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/hearth-build/hearth/cas"
)

// Workspaces is an ability of a Stager that can show one input root after another in
// the same directory.
type Workspaces interface {
	// Workspace makes dir, which does not exist yet, or is empty, ready for the first.
	Workspace(dir string) *Workspace
}

var (
	_ Workspaces = (*Copier)(nil)
	_ Workspaces = (*Mounter)(nil)
)

// Workspace is a directory that shows one input root after another and stays the same
// directory, so that a process which goes on working in it sees each. Only what
// differs is made. It is used by one goroutine at a time, while no process of an
// action runs, and needs no end: it is gone when its directory is.
type Workspace struct {
	copier *Copier
	dir    string
	inode  uint64 // of dir; 0: it was not used yet
	// made are the files that were made here and are to be there still, by directory.
	made map[string]map[string]madeFile
	// shown is the input root before, unless what is there is in doubt.
	shown *Graph
	// forgets is how often the store had lost something when they were made.
	forgets int64
}

// madeFile is a file of root's that an action can replace, but not change: that it is
// the same inode shows that it has the same content.
type madeFile struct {
	fileEntry
	inode uint64
	mtime unix.Timespec
}

// WorkspaceOptions say for whom an input root is, and what else may be there.
type WorkspaceOptions struct {
	StageOptions
	// Preserve what earlier actions left, but for their outputs, and their inputs that
	// Clean matches: globs in which * also matches slashes. Else nothing but the input
	// root is there.
	Preserve bool
	Clean    []string
	// Outputs that the action declares, which go with it.
	Outputs Outputs
}

// Workspace implements Workspaces.
func (c *Copier) Workspace(dir string) *Workspace { return &Workspace{copier: c, dir: dir} }

// Workspace implements Workspaces. What is in it is made by hand: a process that goes
// on would not see what is mounted in place of its directory.
func (m *Mounter) Workspace(dir string) *Workspace { return m.copier.Workspace(dir) }

// ErrReplaced says that the directory of a workspace is not the one that it was.
var ErrReplaced = errors.New("the action replaced its input root")

// Stage makes the directory show the graph's files, directories and symbolic links.
// What was there is kept where it is the same. Missing blobs are reported in one
// *cas.MissingError. After an error another Stage may follow.
func (w *Workspace) Stage(ctx context.Context, g *Graph, opts WorkspaceOptions) (Staged, error) {
	if err := g.stageable(opts.StageOptions); err != nil {
		return nil, err
	}
	if p, ok := w.copier.store.(cas.Prefetcher); ok {
		if err := p.Prefetch(ctx, g.Files()); err != nil {
			return nil, fmt.Errorf("fetch input files: %w", err)
		}
	}
	// A blob that the store found to be damaged may be linked here.
	if n := w.copier.forgets.Load(); n != w.forgets {
		w.forgets, w.made = n, nil
	}
	if err := w.sync(ctx, g, opts, true); err != nil {
		return nil, w.copier.allMissing(ctx, g, err)
	}
	return &workspaceRoot{workspace: w, graph: g, opts: opts}, nil
}

// open opens the directory, which must be the one that it was.
func (w *Workspace) open() (int, error) {
	if w.inode == 0 {
		root, err := makeRoot(w.dir)
		if err != nil {
			return -1, err
		}
		var st unix.Stat_t
		if err := unix.Fstat(root, &st); err != nil {
			return -1, errors.Join(err, unix.Close(root))
		}
		w.inode = st.Ino
		return root, nil
	}
	root, err := openRoot(w.dir)
	switch err {
	case nil:
	case unix.ENOENT, unix.ENOTDIR, unix.ELOOP:
		return -1, ErrReplaced
	default:
		return -1, fmt.Errorf("open input root %s: %w", w.dir, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(root, &st); err != nil || st.Ino != w.inode {
		return -1, errors.Join(err, unix.Close(root), ErrReplaced)
	}
	return root, nil
}

// sync takes away what does not belong there, and makes what is missing if it is told
// to. It goes down one level of directories after another, as staging does.
func (w *Workspace) sync(ctx context.Context, g *Graph, opts WorkspaceOptions, complete bool) error {
	root, err := w.open()
	if err != nil {
		return err
	}
	defer unix.Close(root)
	s := &syncing{
		staging: staging{copier: w.copier, opts: opts.StageOptions, owners: opts.owners(), root: root}, workspace: w,
		preserve: opts.Preserve, clean: opts.Clean, complete: complete, made: map[string]map[string]madeFile{},
	}
	err = s.each(ctx, g, s.directory)
	if err == nil && opts.Preserve {
		err = s.cleanInputs(g)
	}
	if err != nil {
		// What was made until now is not known to be what is there: all is made again.
		w.made, w.shown = nil, nil
		return err
	}
	w.made, w.shown = s.made, g
	return nil
}

// workspaceRoot is an input root in a workspace.
type workspaceRoot struct {
	workspace *Workspace
	graph     *Graph
	opts      WorkspaceOptions
}

var _ Staged = (*workspaceRoot)(nil)

// Remove implements Staged: what the action left goes, and its inputs stay.
func (r *workspaceRoot) Remove() error {
	w := r.workspace
	if r.opts.Preserve {
		if err := w.removeOutputs(r.opts.Outputs); err != nil {
			return err
		}
		return nil
	}
	return w.sync(context.Background(), r.graph, r.opts, false)
}

// removeOutputs removes what the action made, wherever it is now: nothing is followed.
func (w *Workspace) removeOutputs(out Outputs) error {
	root, err := w.open()
	if err != nil {
		return err
	}
	defer unix.Close(root)
	for _, o := range out.declared {
		if err := removeAt(root, o.place); err != nil {
			return fmt.Errorf("remove output %s: %w", quote(o.path), err)
		}
	}
	return nil
}

// removeAt removes what is at a path from an open directory, if it is there.
func removeAt(root int, place string) error {
	parent, err := openBelow(root, parentOf(place), openDir, strictHere)
	switch err {
	case nil:
	case unix.ENOENT, unix.ENOTDIR, unix.ELOOP, unix.EXDEV:
		return nil
	default:
		return err
	}
	defer unix.Close(parent)
	return removeAll(parent, path.Base(place))
}

// syncing is one sync of a workspace.
type syncing struct {
	staging
	workspace *Workspace
	preserve  bool
	clean     []string
	complete  bool

	mu   sync.Mutex // guards made
	made map[string]map[string]madeFile
}

// cleanInputs removes inputs of the last action that this one does not have and that
// are asked to go.
func (s *syncing) cleanInputs(g *Graph) error {
	for dir, files := range s.workspace.made {
		for name, file := range files {
			if err := s.cleanInput(g, dir, name, file); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *syncing) cleanInput(g *Graph, dir, name string, file madeFile) error {
	p := path.Join(dir, name)
	if _, ok := g.Lookup(p); ok {
		return nil
	}
	if !matches(s.clean, p) {
		s.note(dir, name, file) // it can still be asked to go
		return nil
	}
	if err := removeAt(s.root, p); err != nil {
		return fmt.Errorf("remove the former input %s: %w", quote(p), err)
	}
	return nil
}

// matches reports whether one of the globs matches a path as a whole.
func matches(globs []string, p string) bool {
	const slash = "\x00" // no path has that, and a star takes it
	for _, glob := range globs {
		// A glob that is none was refused when the platform was read.
		if ok, err := path.Match(strings.ReplaceAll(glob, "/", slash), strings.ReplaceAll(p, "/", slash)); ok && err == nil {
			return true
		}
	}
	return false
}

func (s *syncing) note(dir, name string, file madeFile) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.made[dir] == nil {
		s.made[dir] = map[string]madeFile{}
	}
	s.made[dir][name] = file
}
