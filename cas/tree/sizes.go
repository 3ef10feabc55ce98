package tree

import "fmt"

// sizes is what a subtree comes to when it is materialised.
type sizes struct {
	nodes int // entries, itself included
	depth int // directories on the longest path, itself included
	path  int // bytes of the longest path below it
}

// state is the colour of a node in the walk of measure.
type state uint8

const (
	unseen state = iota
	open         // on the stack: meeting it again is a cycle
	measured
)

// measure fills in the sizes of all nodes, children first, each once however
// often it is referenced. It keeps its own stack, since graphs can be deep, and
// stops at the first subtree over a limit: the sums cannot overflow.
func (g *Graph) measure(lim Limits) error {
	type frame struct {
		n    *node
		next int
	}
	stack := []frame{{n: g.root}}
	g.root.state = open
	for len(stack) > 0 {
		top := &stack[len(stack)-1]
		if top.next < len(top.n.children) {
			child := top.n.children[top.next]
			top.next++
			switch child.state {
			case open:
				return child.invalid("contains itself")
			case unseen:
				child.state = open
				stack = append(stack, frame{n: child})
			case measured:
			}
			continue
		}
		top.n.state = measured
		if err := top.n.sum(lim); err != nil {
			return err
		}
		stack = stack[:len(stack)-1]
	}
	return nil
}

// sum adds up a node whose children are measured.
func (n *node) sum(lim Limits) error {
	s := sizes{nodes: 1, depth: 1}
	if n.directory != nil {
		s.nodes += len(n.files) + len(n.links)
		for _, e := range n.files {
			s.path = max(s.path, len(e.name))
		}
		for _, e := range n.links {
			s.path = max(s.path, len(e.name))
		}
	}
	for i, c := range n.children {
		s.nodes += c.size.nodes
		s.depth = max(s.depth, c.size.depth+1)
		below := len(n.dirs[i].name)
		if c.size.path > 0 {
			below += 1 + c.size.path
		}
		s.path = max(s.path, below)
		if s.nodes > lim.MaxNodes {
			break
		}
	}
	n.size = s
	return n.checkSize(lim)
}

func (n *node) checkSize(lim Limits) error {
	switch {
	case n.size.nodes > lim.MaxNodes:
		return n.invalid(fmt.Sprintf("has more than %d files, directories and symlinks, the limit for one input root", lim.MaxNodes))
	case n.size.depth > lim.MaxDepth:
		return n.invalid(fmt.Sprintf("is deeper than %d directories, the limit for one input root", lim.MaxDepth))
	case n.size.path > lim.MaxPathLength:
		return n.invalid(fmt.Sprintf("has a path of more than %d bytes, the limit for one input root", lim.MaxPathLength))
	}
	return nil
}
