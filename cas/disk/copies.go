package disk

import "time"

// copyKinds are the files that a blob may have beside itself: each inode has one
// mode, and a small blob has none of its own.
type copyKinds uint8

const (
	plainCopy copyKinds = 1 << iota
	executableCopy
)

// copies are the files of one entry beside the blob itself. The entry knows which.
type copies struct {
	prev, next *copies // nil while the entry is pinned
	entry      *entry
	linked     time.Time // last
}

// copyHeat is how long a copy that was linked stays, unless its blob goes. Older
// ones are the first to go when room is wanted.
const copyHeat = 10 * time.Minute

func (k copyKinds) count() int64 { return int64(k&plainCopy + k&executableCopy>>1) }

// useCopy reports whether an entry has a copy of a kind, which is linked now.
func (x *index) useCopy(e *entry, kind copyKinds) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.blobs.has(e) || e.kinds&kind == 0 {
		return false
	}
	c := x.copied[e.number]
	c.linked = time.Now()
	if c.next != nil && x.copies.next != c {
		unlistCopiesLocked(c)
		x.listCopiesLocked(c)
	}
	return true
}

// addCopy notes that an entry has a copy now, in exchange for reserved bytes. It
// reports whether the entry is still there to have one.
func (x *index) addCopy(e *entry, kind copyKinds) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.blobs.has(e) || e.kinds&kind != 0 {
		return false
	}
	x.reserved -= blocksOf(e.size)
	c := x.copied[e.number]
	if c == nil {
		c = &copies{entry: e}
		x.copied[e.number] = c
		if e.linked() {
			x.listCopiesLocked(c)
		}
	}
	e.kinds |= kind
	c.linked = time.Now()
	x.chargeCopyLocked(e, 1)
	return true
}

// dropCopies notes that an entry's copies are not to be used, and returns which
// there were.
func (x *index) dropCopies(e *entry) copyKinds {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.blobs.has(e) || e.kinds == 0 {
		return 0
	}
	return x.dropCopiesLocked(e)
}

func (x *index) dropCopiesLocked(e *entry) (kinds copyKinds) {
	x.chargeCopyLocked(e, -e.kinds.count())
	if c := x.copied[e.number]; c.next != nil {
		unlistCopiesLocked(c)
	}
	delete(x.copied, e.number)
	kinds, e.kinds = e.kinds, 0
	return kinds
}

// chargeCopyLocked accounts for n more copies of an entry.
func (x *index) chargeCopyLocked(e *entry, n int64) {
	x.used += n * blocksOf(e.size)
	if e.linked() {
		x.unpinned += n * blocksOf(e.size)
	}
}

func (x *index) listCopiesLocked(c *copies) {
	c.prev, c.next = &x.copies, x.copies.next
	c.prev.next, c.next.prev = c, c
}

func unlistCopiesLocked(c *copies) {
	c.prev.next, c.next.prev = c.next, c.prev
	c.prev, c.next = nil, nil
}
