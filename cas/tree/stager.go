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
	// Remove takes away all that is in the directory by now, and the directory
	// itself unless it stays, empty. It is called once, when no process uses the
	// directory any more, and returns as soon as the place is free for another.
	Remove() error
}

// StageOptions say for whom an input root is.
type StageOptions struct {
	// UID and GID of the action. They own the directories, so that the action
	// can write there.
	UID, GID int
	// Root is, on this host, the ID of root of the user namespace that the action is
	// in, as UID and GID are those of its user; 0: it is in this process's own.
	Root int
	// Writable: they own the files as well, and may write to them. Else files are
	// root's and read-only. Nobody else ever sees what is written.
	Writable bool
	// AllowLinks: files that are not writable may be hard links to the store's own
	// inodes, since the action can neither write to an inode of root nor change
	// its mode. In a user namespace of its own it would see them as nobody's.
	AllowLinks bool
	// AbsoluteSymlinks: symbolic links with absolute targets are made as they
	// are. Without it a graph that has one is refused.
	AbsoluteSymlinks bool
}
