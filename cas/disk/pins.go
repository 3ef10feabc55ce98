package disk

// pin keeps blobs, present or not, from being evicted until unpin.
func (x *index) pin(keys []key) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, k := range keys {
		x.pinLocked(k)
	}
}

func (x *index) pinLocked(k key) {
	x.pins[k]++
	if e := x.blobs.get(k); e != nil && e.linked() {
		x.unlistLocked(e)
	}
}

// unpin ends a pin, which counts as a use.
func (x *index) unpin(keys []key) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, k := range keys {
		x.unpinLocked(k)
	}
}

func (x *index) unpinLocked(k key) {
	if x.pins[k]--; x.pins[k] > 0 {
		return
	}
	delete(x.pins, k)
	if e := x.blobs.get(k); e != nil {
		x.listLocked(e)
	}
}

// listLocked makes e the most recently used of those that may be evicted.
func (x *index) listLocked(e *entry) {
	x.blobs.link(e)
	x.unpinned += e.charge()
	if e.kinds != 0 {
		x.listCopiesLocked(x.copied[e.number])
	}
}

func (x *index) unlistLocked(e *entry) {
	x.blobs.unlink(e)
	x.unpinned -= e.charge()
	if e.kinds != 0 {
		unlistCopiesLocked(x.copied[e.number])
	}
}

// toFrontLocked is unlistLocked and listLocked, but for the copies, whose use
// is another one.
func (x *index) toFrontLocked(e *entry) {
	x.blobs.unlink(e)
	x.blobs.link(e)
}
