package disk

// doubt has a blob checked before its next use.
func (x *index) doubt(e *entry) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.blobs.has(e) && !e.suspect {
		e.suspect = true
		x.suspects++
	}
}

func (x *index) isSuspect(e *entry) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.blobs.has(e) && e.suspect
}

func (x *index) anySuspect() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.suspects > 0
}

// suspectKeys returns the blobs that are in doubt, the least recently used
// first: checking them in this order keeps it.
func (x *index) suspectKeys() []key {
	x.mu.Lock()
	defer x.mu.Unlock()
	keys := make([]key, 0, x.suspects)
	for e := x.blobs.oldest(); e != nil && len(keys) < x.suspects; e = x.blobs.newer(e) {
		if e.suspect {
			keys = append(keys, e.key())
		}
	}
	if len(keys) == x.suspects {
		return keys
	}
	for e := range x.blobs.all { // pinned ones are in no ring
		if e.suspect && !e.linked() {
			keys = append(keys, e.key())
		}
	}
	return keys
}

// trust ends the suspicion against an entry whose file was found right.
func (x *index) trust(e *entry, written int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.blobs.has(e) && e.suspect {
		e.suspect = false
		e.written = written
		x.suspects--
	}
}
