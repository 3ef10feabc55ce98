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
	if e := x.blobs[k]; e != nil && e.next != nil {
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
	if e := x.blobs[k]; e != nil {
		x.listLocked(e)
	}
}

// listLocked makes e the most recently used of those that may be evicted.
func (x *index) listLocked(e *entry) {
	e.prev, e.next = &x.list, x.list.next
	e.prev.next, e.next.prev = e, e
	x.unpinned += e.charge()
	if e.copies != nil {
		x.listCopiesLocked(e.copies)
	}
}

func (x *index) unlistLocked(e *entry) {
	e.prev.next, e.next.prev = e.next, e.prev
	e.prev, e.next = nil, nil
	x.unpinned -= e.charge()
	if e.copies != nil {
		unlistCopiesLocked(e.copies)
	}
}

// toFrontLocked is unlistLocked and listLocked, but for the copies, whose use
// is another one.
func (x *index) toFrontLocked(e *entry) {
	e.prev.next, e.next.prev = e.next, e.prev
	e.prev, e.next = &x.list, x.list.next
	e.prev.next, e.next.prev = e, e
}
