package disk

import (
	"sync"

	"github.com/hearth-build/hearth/cas"
)

// index knows which blobs are there, in the order of their last use. It never
// touches a file.
//
// An entry is in the list of what may be evicted unless it is pinned; it is
// pinned while it is leased or somebody works on its files (flight).
type index struct {
	mu       sync.Mutex // guards all below
	blobs    map[key]*entry
	list     entry // head of a ring, most recently used first
	pins     map[key]int32
	flights  map[key]*flight
	max      int64
	used     int64 // bytes of the blobs in the index
	reserved int64 // bytes of those on their way in
	unpinned int64 // bytes of those in the list
	suspects int   // entries that have to be checked
}

// entry is a blob whose file is in place. There are many: it is kept small.
type entry struct {
	key        key
	prev, next *entry // nil while pinned
	size       int64
	// written is the file's time of modification as the store left it (Unix
	// time in nanoseconds). A file with another one was changed by someone else.
	written    int64
	executable bool // the executable copy is there, too
	suspect    bool // check the hash before use
}

const blockSize = 4096

// charge is what a blob of this size takes from the budget: whole blocks.
func charge(size int64) int64 {
	if size > 1<<62 {
		return size // never fits; and must not overflow
	}
	return (size + blockSize - 1) / blockSize * blockSize
}

func (e *entry) charge() int64 {
	if e.executable {
		return 2 * charge(e.size)
	}
	return charge(e.size)
}

func newIndex() *index {
	x := &index{
		blobs:   make(map[key]*entry),
		pins:    make(map[key]int32),
		flights: make(map[key]*flight),
	}
	x.list.prev, x.list.next = &x.list, &x.list
	return x
}

// presence is what the index says of one digest.
type presence uint8

const (
	absent presence = iota
	present
	unchecked // there, but to be verified first
)

// use looks a blob up and restarts its eviction age.
func (x *index) use(k key) (presence, *entry, int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	e := x.blobs[k]
	p := x.useLocked(e)
	if e == nil {
		return p, nil, 0
	}
	return p, e, e.written
}

func (x *index) useLocked(e *entry) presence {
	switch {
	case e == nil:
		return absent
	case e.suspect:
		return unchecked
	}
	if e.next != nil && x.list.next != e {
		x.unlistLocked(e)
		x.listLocked(e)
	}
	return present
}

// useAll is use for up to findChunk digests of a namespace under one lock.
func (x *index) useAll(ns namespaceID, ds []cas.Digest, out []presence) {
	// The keys are made before the lock is taken, and on the stack.
	var space [findChunk * maxKeyLen]byte
	var ends [findChunk]int
	keys := space[:0]
	for i, d := range ds {
		keys = appendKey(keys, ns, d)
		ends[i] = len(keys)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	from := 0
	for i := range ds {
		out[i] = x.useLocked(x.blobs[key(keys[from:ends[i]])])
		from = ends[i]
	}
}

// findChunk is how many digests are looked up under one lock: enough to make
// the lock cheap, few enough for others to get their turn.
const findChunk = 256

// add makes a blob visible, in exchange for reserved bytes. If another writer
// was quicker there is nothing to make visible.
func (x *index) add(k key, size, written int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.reserved -= charge(size)
	if e := x.blobs[k]; e != nil {
		return
	}
	x.addLocked(&entry{key: k, size: size, written: written})
}

func (x *index) addLocked(e *entry) {
	x.blobs[e.key] = e
	x.used += e.charge()
	if e.suspect {
		x.suspects++
	}
	if x.pins[e.key] == 0 {
		x.listLocked(e)
	}
}

// drop forgets a blob, if the entry is still the one that the caller saw.
func (x *index) drop(e *entry) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.blobs[e.key] == e {
		x.dropLocked(e)
	}
}

func (x *index) dropLocked(e *entry) {
	delete(x.blobs, e.key)
	x.used -= e.charge()
	if e.suspect {
		x.suspects--
	}
	if e.next != nil {
		x.unlistLocked(e)
	}
}

// doubt has a blob checked before its next use.
func (x *index) doubt(e *entry) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.blobs[e.key] == e && !e.suspect {
		e.suspect = true
		x.suspects++
	}
}

func (x *index) isSuspect(e *entry) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.blobs[e.key] == e && e.suspect
}

func (x *index) isExecutable(e *entry) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.blobs[e.key] == e && e.executable
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
	for e := x.list.prev; e != &x.list && len(keys) < x.suspects; e = e.prev {
		if e.suspect {
			keys = append(keys, e.key)
		}
	}
	if len(keys) == x.suspects {
		return keys
	}
	for k, e := range x.blobs { // pinned ones are in no list
		if e.suspect && e.next == nil {
			keys = append(keys, k)
		}
	}
	return keys
}

// addExecutable notes that an entry has an executable copy now, in exchange for
// reserved bytes. It reports whether the entry is still there to have one.
func (x *index) addExecutable(e *entry) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.blobs[e.key] != e || e.executable {
		return false
	}
	x.reserved -= charge(e.size)
	e.executable = true
	x.used += charge(e.size)
	return true
}

// dropExecutable notes that an entry's executable copy is not to be used. It
// reports whether there was one.
func (x *index) dropExecutable(e *entry) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.blobs[e.key] != e || !e.executable {
		return false
	}
	e.executable = false
	x.used -= charge(e.size)
	return true
}

// trust ends the suspicion against an entry whose file was found right.
func (x *index) trust(e *entry, written int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.blobs[e.key] == e && e.suspect {
		e.suspect = false
		e.written = written
		x.suspects--
	}
}

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
}

func (x *index) unlistLocked(e *entry) {
	e.prev.next, e.next.prev = e.next, e.prev
	e.prev, e.next = nil, nil
	x.unpinned -= e.charge()
}
