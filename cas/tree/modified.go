package tree

import (
	"fmt"
	"path"
	"slices"

	"golang.org/x/sys/unix"
)

// Inspector is an ability of a Staged input root that knows what was done to it.
type Inspector interface {
	// Modified lists inputs that were written to, replaced or removed since they
	// were staged, but for declared outputs and what is in them. It looks at no
	// more than it can in a millisecond or so, and may miss some. It is called
	// before Remove, when no process uses the directory any more.
	Modified(out Outputs) ([]string, error)
}

var _ Inspector = (*mounted)(nil)

// maxInspected bounds the entries that Modified looks at.
const maxInspected = 200

// Modified implements Inspector: what is in the upper layer was changed.
func (s *mounted) Modified(out Outputs) ([]string, error) {
	root, err := openRoot(s.changes())
	if err != nil {
		return nil, fmt.Errorf("open the changes of input root %s: %w", s.dir, err)
	}
	defer unix.Close(root)
	i := inspection{graph: s.graph, root: root, outputs: make(map[string]bool, len(out.declared))}
	for _, o := range out.declared {
		i.outputs[o.place] = true
	}
	for dirs := []string{""}; len(dirs) > 0; dirs = dirs[1:] {
		below, err := i.look(dirs[0])
		if err != nil {
			return nil, fmt.Errorf("look at the changes in directory %s: %w", quote(dirs[0]), err)
		}
		dirs = append(dirs, below...)
	}
	slices.Sort(i.found)
	return i.found, nil
}

// inspection is one Modified on its way.
type inspection struct {
	graph   *Graph
	root    int // of the upper layer
	outputs map[string]bool
	seen    int
	found   []string
}

// look lists one directory of the upper layer and returns the directories in it
// that are directories of the input root too.
func (i *inspection) look(dir string) (below []string, err error) {
	if i.outputs[dir] {
		return nil, nil
	}
	fd, err := openBelow(i.root, dir, openDir, strictHere)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	if i.replaced(fd) {
		i.found = append(i.found, dir)
		return nil, nil
	}
	err = readDir(fd, func(e dirent) error {
		if i.seen++; i.seen > maxInspected {
			return nil
		}
		p := path.Join(dir, e.name)
		was, ok := i.graph.Lookup(p)
		switch {
		case !ok || i.outputs[p]:
		case e.kind == unix.DT_DIR && was == KindDirectory:
			below = append(below, p)
		default:
			i.found = append(i.found, p)
		}
		return nil
	})
	return below, err
}

// replaced tells whether a directory hides the one of the input root instead of
// adding to it: it was removed and made anew, or renamed to here.
func (i *inspection) replaced(fd int) bool {
	for _, name := range []string{"trusted.overlay.opaque", "trusted.overlay.redirect"} {
		if n, err := unix.Fgetxattr(fd, name, nil); err == nil && n > 0 {
			return true
		}
	}
	return false
}
