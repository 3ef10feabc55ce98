package tree

import "cmp"

// Limits bound what one input root may be. Zero fields mean those of
// DefaultLimits.
type Limits struct {
	// MaxNodes bounds the files, directories and symbolic links that appear on
	// disk; a subtree counts wherever it is referenced.
	MaxNodes int
	// MaxDepth bounds the directories on a path, the root included.
	MaxDepth int
	// MaxDirectoryBytes bounds one Directory message.
	MaxDirectoryBytes int64
	// MaxPathLength bounds a path from the input root, in bytes. More than
	// PATH_MAX cannot be set.
	MaxPathLength int
	// NoAbsoluteSymlinks makes symbolic links with absolute targets invalid, as
	// SymlinkAbsolutePathStrategy DISALLOWED wants it.
	NoAbsoluteSymlinks bool
}

// DefaultLimits is far above real builds and well below what a host endures.
// MaxPathLength leaves room for the place of the root in a container.
func DefaultLimits() Limits {
	return Limits{MaxNodes: 1_000_000, MaxDepth: 1024, MaxDirectoryBytes: 16 << 20, MaxPathLength: 4000}
}

func (l Limits) withDefaults() Limits {
	d := DefaultLimits()
	l.MaxNodes = cmp.Or(l.MaxNodes, d.MaxNodes)
	l.MaxDepth = cmp.Or(l.MaxDepth, d.MaxDepth)
	l.MaxDirectoryBytes = cmp.Or(l.MaxDirectoryBytes, d.MaxDirectoryBytes)
	l.MaxPathLength = min(cmp.Or(l.MaxPathLength, d.MaxPathLength), maxPath)
	return l
}
