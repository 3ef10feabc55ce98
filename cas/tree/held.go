package tree

// maxCompared bounds how many pairs of directories Holds looks at: its caller waits.
const maxCompared = 256

// Holds says how many entries of an input root were in the one before, and so need not
// be made. What differs a lot, in many directories, counts for less than it is.
func (w *Workspace) Holds(g *Graph) int {
	if w.shown == nil {
		return 0
	}
	type pair struct{ now, before *node }
	count := 0
	pairs := []pair{{g.root, w.shown.root}}
	for i := 0; i < len(pairs) && i < maxCompared; i++ {
		now, before := pairs[i].now, pairs[i].before
		if now.digest == before.digest {
			count += now.size.nodes
			continue
		}
		if now.directory == nil || before.directory == nil {
			continue
		}
		for _, file := range now.files {
			if at, found := find(before.files, file.name); found && before.files[at].digest == file.digest {
				count++
			}
		}
		for at, dir := range now.dirs {
			if was, found := find(before.dirs, dir.name); found {
				pairs = append(pairs, pair{now.children[at], before.children[was]})
			}
		}
	}
	return count
}
