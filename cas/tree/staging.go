package tree

import (
	"context"
	"errors"
	"fmt"
	"path"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/hearth-build/hearth/cas"
)

// staging is one input root that is being made.
type staging struct {
	copier  *Copier
	opts    StageOptions
	owners  owners // as opts have them
	root    int
	buffers sync.Pool // of *[]byte, of copyBuffer bytes
}

// place is one directory of the input root; the same node can have many.
type place struct {
	node *node
	path string
}

// lostBlob: a file's blob was there when the graph was checked, and is not now.
type lostBlob struct {
	digest cas.Digest
	err    error
}

func (e *lostBlob) Error() string { return e.err.Error() }
func (e *lostBlob) Unwrap() error { return e.err }

// run fills all directories.
func (s *staging) run(ctx context.Context, g *Graph) error { return s.each(ctx, g, s.fill) }

// each takes one level of directories after the other. A directory is opened by its
// path from the root, so that only one per worker is open, however deep.
func (s *staging) each(ctx context.Context, g *Graph, do func(context.Context, place) error) error {
	level := []place{{node: g.root}}
	for len(level) > 0 {
		err := parallel(ctx, s.copier.workers, len(level), func(ctx context.Context, i int) error {
			return do(ctx, level[i])
		})
		if err != nil {
			return err
		}
		var next []place
		for _, p := range level {
			for i, e := range p.node.dirs {
				next = append(next, place{node: p.node.children[i], path: path.Join(p.path, e.name)})
			}
		}
		level = next
	}
	return nil
}

// fill makes all entries of a directory that exists.
func (s *staging) fill(ctx context.Context, p place) error {
	fd, err := openBelow(s.root, p.path, openDir, strictHere)
	if err != nil {
		return fmt.Errorf("open new directory %s: %w", quote(p.path), err)
	}
	defer unix.Close(fd)
	if err := own(fd, s.opts.UID, s.opts.GID, 0o755); err != nil {
		return fmt.Errorf("give directory %s to user %d: %w", quote(p.path), s.opts.UID, err)
	}
	for _, e := range p.node.dirs {
		if err := unix.Mkdirat(fd, e.name, 0o755); err != nil {
			return fmt.Errorf("make directory %s: %w", quote(path.Join(p.path, e.name)), err)
		}
	}
	for _, e := range p.node.links {
		if err := unix.Symlinkat(e.target, fd, e.name); err != nil {
			return fmt.Errorf("make symlink %s: %w", quote(path.Join(p.path, e.name)), err)
		}
	}
	for _, e := range p.node.files {
		if err := s.file(ctx, fd, e); err != nil {
			return fmt.Errorf("make file %s: %w", quote(path.Join(p.path, e.name)), err)
		}
	}
	return nil
}

func (s *staging) file(ctx context.Context, dirFD int, e fileEntry) error {
	if s.opts.AllowLinks && !s.opts.Writable && s.copier.linker != nil && !e.digest.IsEmptyBlob() && e.wish == nil {
		err := s.copier.linker.Link(ctx, e.digest, dirFD, e.name, e.executable)
		if !errors.Is(err, cas.ErrCannotLink) {
			return lost(e.digest, err)
		}
	}
	return lost(e.digest, s.write(ctx, dirFD, e))
}

func lost(d cas.Digest, err error) error {
	if errors.Is(err, cas.ErrNotFound) {
		return &lostBlob{digest: d, err: err}
	}
	return err
}

// own sets owner and mode of an open file or directory where they differ: the
// umask of the process does not count, and most of the time nothing is left
// to do.
func own(fd, uid, gid int, mode uint32) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Uid != uint32(uid) || st.Gid != uint32(gid) {
		if err := unix.Fchown(fd, uid, gid); err != nil {
			return err
		}
	}
	if st.Mode&0o7777 != mode {
		return unix.Fchmod(fd, mode)
	}
	return nil
}
