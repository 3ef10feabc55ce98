package disk

import (
	"sync"
	"unsafe"

	"github.com/hearth-build/hearth/cas"
)

// index knows which blobs and records are there, in the order of their last
// use. It never touches a file.
//
// An entry may be evicted unless it is pinned; it is pinned while it is leased or
// somebody works on its files (flight).
type index struct {
	mu       sync.Mutex         // guards all below
	blobs    table              // those that may be evicted are in its ring, most recently used first
	copies   copies             // head of a ring: those of the entries in the ring
	copied   map[uint32]*copies // by the numbers of entries
	pins     map[key]int32
	flights  map[key]*flight
	queue    queue
	spans    spans
	max      int64
	used     int64 // bytes of the blobs in the index
	small    int64 // of them, those of values on the key-value side
	reserved int64 // bytes of those on their way in
	unpinned int64 // bytes of those in the ring
	suspects int   // entries that have to be checked
	latest   int64 // time at which a value was stored

	// What was evicted since the store was opened.
	evicted      int
	evictedBytes int64
}

// entry is a blob or record that is in place. There are many: it is kept small, and has no
// pointers, so that the garbage collector does not read it.
type entry struct {
	start   [keyRoom]byte // of the key
	keyLen  uint8
	small   bool      // on the key-value side, no file
	suspect bool      // check the hash before use
	kinds   copyKinds // files beside the blob itself
	number  uint32    // in the table, as all of these
	tag     uint32    // by which the table finds it
	prev    uint32    // in the ring
	next    uint32
	inPack  // of a value
	size    int64
	// written is the file's time of modification as the store left it (Unix
	// time in nanoseconds). A file with another one was changed by someone else.
	// If the blob is no file it is part of its key on the key-value side, or leads to that
	// of its pack, and it is the time that its copies get.
	written int64
}

// keyRoom is for the key of a blob of less than 256 MiB with one of the usual hash functions.
const keyRoom = 40

// longEntry is an entry with a longer key.
type longEntry struct {
	entry
	rest [maxKeyLen - keyRoom]byte // of the key
}

// newEntry makes an entry that is not in the index yet.
func newEntry[K key | []byte](k K, size int64) (e *entry) {
	if len(k) > keyRoom {
		long := new(longEntry)
		copy(long.rest[:], k[keyRoom:])
		e = &long.entry
	} else {
		e = new(entry)
	}
	e.fill([]byte(k), size)
	return e
}

// fill gives an entry what of its key has room in it.
func (e *entry) fill(name []byte, size int64) {
	copy(e.start[:], name)
	e.size, e.keyLen = size, uint8(len(name))
}

// rest is what of the key has no room in the entry.
func (e *entry) rest() []byte {
	if e.keyLen <= keyRoom {
		return nil
	}
	long := (*longEntry)(unsafe.Pointer(e)) // newEntry made it one, which begins with e
	return long.rest[:e.keyLen-keyRoom]
}

// name is the key in bytes, which must not be changed.
func (e *entry) name() []byte {
	if e.keyLen <= keyRoom {
		return e.start[:e.keyLen]
	}
	return append(e.start[:], e.rest()...)
}

func (e *entry) isRecord() bool { return e.start[0]&recordBit != 0 }

// is reports whether name is the entry's, without making one.
func (e *entry) is(name []byte) bool {
	if len(name) != int(e.keyLen) {
		return false
	}
	n := min(len(name), keyRoom)
	return string(e.start[:n]) == string(name[:n]) && string(e.rest()) == string(name[n:])
}

func (e *entry) key() key { return key(e.name()) }

const blockSize = 4096

// blocksOf is what a file of this size takes from the budget: whole blocks.
func blocksOf(size int64) int64 {
	if size > 1<<62 {
		return size // never fits; and must not overflow
	}
	return (size + blockSize - 1) / blockSize * blockSize
}

// valueOverhead is about what a key and its place among the values take.
const valueOverhead = 128

// charge is what a blob takes from the budget.
func charge(size int64, small bool) int64 {
	if small {
		return size + valueOverhead
	}
	return blocksOf(size)
}

func (e *entry) charge() int64 {
	return charge(e.size, e.small) + e.kinds.count()*blocksOf(e.size)
}

func newIndex() *index {
	x := &index{
		blobs:   newTable(0),
		copied:  make(map[uint32]*copies),
		pins:    make(map[key]int32),
		flights: make(map[key]*flight),
	}
	x.copies.prev, x.copies.next = &x.copies, &x.copies
	x.queue.init()
	return x
}

// presence is what the index says of one digest.
type presence uint8

const (
	absent presence = iota
	present
	unchecked // there, but to be verified first
)

// found is a blob as a look into the index shows it.
type found struct {
	presence presence
	entry    *entry
	size     int64
	written  int64
	inPack          // of a small one
	data     []byte // of a small one that is in memory
}

// use looks a blob up and restarts its eviction age.
func (x *index) use(k key) found {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.findLocked(x.blobs.get(k))
}

// look is use of an entry that the caller wants to check: it is no use, and what
// is on the key-value side is read from there.
func (x *index) look(e *entry) found {
	x.mu.Lock()
	defer x.mu.Unlock()
	f := x.seenLocked(present, e)
	if o := x.blobs.value(e); o != nil && o.done {
		f.data = nil
	}
	return f
}

func (x *index) findLocked(e *entry) found { return x.seenLocked(x.useLocked(e), e) }

func (x *index) seenLocked(p presence, e *entry) found {
	f := found{presence: p, entry: e}
	if e != nil {
		f.size, f.written, f.inPack = e.size, e.written, e.inPack
		if o := x.blobs.value(e); o != nil {
			f.data = o.data
		}
	}
	return f
}

func (x *index) useLocked(e *entry) presence {
	switch {
	case e == nil:
		return absent
	case e.suspect:
		return unchecked
	}
	if e.linked() && x.blobs.newest() != e {
		x.toFrontLocked(e)
	}
	return present
}

// useAll is use for up to findChunk digests of a namespace under one lock. It
// calls got for each, in order, with the entry or nil.
func (x *index) useAll(ns namespaceID, ds []cas.Digest, got func(i int, p presence, e *entry)) {
	// The keys are made before the lock is taken, and on the stack.
	var space [findChunk * maxKeyLen]byte
	var ends [findChunk]int
	var tags [findChunk]uint32
	keys := space[:0]
	for i, d := range ds {
		from := len(keys)
		keys = appendKey(keys, ns, d)
		ends[i], tags[i] = len(keys), x.blobs.tag(keys[from:])
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.blobs.touch(tags[:len(ds)])
	from := 0
	for i := range ds {
		e := x.blobs.find(tags[i], keys[from:ends[i]])
		got(i, x.useLocked(e), e)
		from = ends[i]
	}
}

// findChunk is how many digests are looked up under one lock: enough to make
// the lock cheap, few enough for others to get their turn.
const findChunk = 256

// add makes a blob in a file visible, in exchange for reserved bytes. If another
// writer was quicker there is nothing to make visible.
func (x *index) add(k key, size, written int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.reserved -= blocksOf(size)
	if e := x.blobs.get(k); e != nil {
		return
	}
	e := newEntry(k, size)
	e.written = written
	x.addLocked(e)
}

func (x *index) addLocked(e *entry) {
	x.blobs.add(e)
	x.used += e.charge()
	if e.small {
		x.small += charge(e.size, true)
		x.latest = max(x.latest, e.written)
	}
	if e.suspect {
		x.suspects++
	}
	if e.kinds != 0 {
		x.copied[e.number] = &copies{entry: e}
	}
	if x.pins[key(e.name())] == 0 {
		x.listLocked(e)
	}
}

// drop forgets a blob, if the entry is still the one that the caller saw.
func (x *index) drop(e *entry) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if o := x.blobs.value(e); !x.blobs.has(e) || (o != nil && !o.done) {
		return false
	}
	x.dropLocked(e)
	if e.small { // what is damaged must not be there after the next start
		x.queue.addLocked(deletion(e))
	}
	return true
}

// dropLocked forgets an entry. What is on the key-value side is cleared there in
// time; files are the caller's to remove.
func (x *index) dropLocked(e *entry) {
	x.used -= e.charge()
	if e.suspect {
		x.suspects--
	}
	if e.linked() {
		x.unlistLocked(e)
	}
	if e.kinds != 0 {
		delete(x.copied, e.number)
	}
	x.blobs.remove(e)
	if e.small {
		x.small -= charge(e.size, true)
		x.spans.died(e.written, charge(e.size, true))
		if c, ok := x.spans.clear(e.written, max(2*x.spans.size, x.small/4)); ok {
			x.queue.addLocked(&op{clear: &c})
		}
		if e.isRecord() { // whose next value another one would come back in place of
			x.queue.addLocked(deletion(e))
		}
	}
}

// inSpanLocked notes that an entry's value is going to be stored as the latest one.
func (x *index) inSpanLocked(e *entry) {
	if x.spans.add(e.written, charge(e.size, true), 1) {
		x.queue.addLocked(&op{clear: &stretch{end: true}})
	}
}

// clearAll has all that is dead cleared on the key-value side.
func (x *index) clearAll() {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, c := range x.spans.takeAll() {
		x.queue.addLocked(&op{clear: &c})
	}
}

// queueClear has a stretch cleared after what is queued now.
func (x *index) queueClear(c stretch) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.queue.addLocked(&op{clear: &c})
}

// has reports whether an entry is still in the index. It is no use.
func (x *index) has(e *entry) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.blobs.has(e)
}
