package tree

import (
	"context"
	"errors"
	"fmt"
	"path"

	"golang.org/x/sys/unix"
)

// directory makes one directory of a workspace show what its node says.
func (s *syncing) directory(ctx context.Context, p place) error {
	fd, err := openBelow(s.root, p.path, openDir, strictHere)
	if err == unix.ENOENT && !s.complete {
		return nil // the action removed it
	}
	if err != nil {
		return fmt.Errorf("open directory %s: %w", quote(p.path), err)
	}
	defer unix.Close(fd)
	if err := s.restore(fd); err != nil {
		return fmt.Errorf("give directory %s to user %d: %w", quote(p.path), s.opts.UID, err)
	}
	there, err := s.prune(fd, p)
	if err != nil {
		return fmt.Errorf("tidy up directory %s: %w", quote(p.path), err)
	}
	if !s.complete {
		return nil
	}
	for _, e := range p.node.dirs {
		if there[e.name] {
			continue
		}
		if err := unix.Mkdirat(fd, e.name, 0o755); err != nil {
			return fmt.Errorf("make directory %s: %w", quote(path.Join(p.path, e.name)), err)
		}
	}
	for _, e := range p.node.links {
		if there[e.name] {
			continue
		}
		if err := unix.Symlinkat(e.target, fd, e.name); err != nil {
			return fmt.Errorf("make symlink %s: %w", quote(path.Join(p.path, e.name)), err)
		}
	}
	for _, e := range p.node.files {
		if there[e.name] {
			continue
		}
		if err := s.make(ctx, fd, p.path, e); err != nil {
			return fmt.Errorf("make file %s: %w", quote(path.Join(p.path, e.name)), err)
		}
	}
	return nil
}

// restore makes a directory the action's again, with nothing that later files in it
// would inherit.
func (s *syncing) restore(fd int) error {
	err := unix.Fremovexattr(fd, "system.posix_acl_default")
	if err != nil && err != unix.ENODATA && err != unix.ENOTSUP {
		return err
	}
	return own(fd, s.opts.UID, s.opts.GID, 0o755)
}

// prune removes what does not belong in a directory, and says what of its node is
// there.
func (s *syncing) prune(fd int, p place) (there map[string]bool, err error) {
	there = map[string]bool{}
	var gone []string
	err = readDir(fd, func(e dirent) error {
		wanted, same, err := s.same(fd, p, e.name)
		switch {
		case err != nil:
			return err
		case same:
			there[e.name] = true
		case wanted || !s.preserve:
			gone = append(gone, e.name)
		}
		return nil
	})
	for _, name := range gone {
		err = errors.Join(err, removeAll(fd, name))
	}
	return there, err
}

// same reports whether a node wants an entry by that name, and whether it is what is
// there.
func (s *syncing) same(fd int, p place, name string) (wanted, same bool, err error) {
	var st unix.Stat_t
	if err := unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return false, false, err
	}
	if _, ok := find(p.node.dirs, name); ok {
		return true, kindOf(&st) == unix.DT_DIR, nil
	}
	if i, ok := find(p.node.links, name); ok {
		if kindOf(&st) != unix.DT_LNK {
			return true, false, nil
		}
		target := make([]byte, maxPath+1)
		n, err := unix.Readlinkat(fd, name, target)
		return true, err == nil && string(target[:n]) == p.node.links[i].target, err
	}
	i, ok := find(p.node.files, name)
	if !ok {
		return false, false, nil
	}
	made, ok := s.workspace.made[p.path][name]
	if !ok || !made.is(&st, p.node.files[i], s.owners) || s.opts.Writable {
		return true, false, nil
	}
	s.note(p.path, name, made)
	return true, true, nil
}

// is reports whether a file that was made is the one that is there, and as it is
// wanted now.
func (m *madeFile) is(st *unix.Stat_t, e fileEntry, o owners) bool {
	mode := uint32(unix.S_IFREG | 0o444)
	if e.executable {
		mode |= 0o111
	}
	return m.digest == e.digest && m.executable == e.executable && m.wish == nil && e.wish == nil &&
		st.Ino == m.inode && st.Mode == mode && st.Uid == uint32(o.rootUID) && st.Size == e.digest.Size() && st.Mtim == m.mtime
}

// make makes a file and notes it.
func (s *syncing) make(ctx context.Context, fd int, dir string, e fileEntry) error {
	if err := s.file(ctx, fd, e); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstatat(fd, e.name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	s.note(dir, e.name, madeFile{fileEntry: e, inode: st.Ino, mtime: st.Mtim})
	return nil
}
