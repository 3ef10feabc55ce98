package tree

import "context"

// Stager makes input roots appear in directories. It is safe for concurrent
// use.
type Stager interface {
	// Stage makes the directory dir (which does not exist yet, or is empty)
	// show the graph's files, directories and symbolic links, and nothing else.
	// Missing blobs are reported in one *cas.MissingError. On an error nothing
	// is left.
	Stage(ctx context.Context, g *Graph, dir string, opts StageOptions) (Staged, error)
}

// Staged is one input root in a directory.
type Staged interface {
	// Remove takes the directory away with all that is in it by now. It is
	// called once, when no process uses the directory any more, and returns as
	// soon as the place is free for another.
	Remove() error
}

// StageOptions say for whom an input root is.
type StageOptions struct {
	// UID and GID of the action. They own the directories, so that the action
	// can write there. If UID is 0, they own copied files as well, and those
	// are writable; else files are root's and read-only.
	UID, GID int
	// AllowLinks: files may be hard links to the store's own inodes, since the
	// action can neither write to an inode of root nor change its mode.
	AllowLinks bool
	// AbsoluteSymlinks: symbolic links with absolute targets are made as they
	// are. Without it a graph that has one is refused.
	AbsoluteSymlinks bool
}
