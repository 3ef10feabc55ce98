package disk

import "hash/maphash"

// table finds entries by their keys. There can be millions of them, at which the garbage
// collector looks over and over: it has one pointer to follow for each, since keys are
// part of their entries, and links and the map know entries by their numbers.
type table struct {
	seed    maphash.Seed
	bits    uint64            // of hashes: fewer make many keys share one
	first   map[uint64]uint32 // of the entries with a hash, which same goes on from
	entries []*entry          // by number; nil: free
	free    []uint32
}

const (
	none    uint32 = 0 // is no entry
	head    uint32 = 1 // of the ring is none either
	numbers        = 2 // begin those of entries
)

func newTable(room int) table {
	t := table{
		seed:    maphash.MakeSeed(),
		bits:    ^uint64(0),
		first:   make(map[uint64]uint32, room),
		entries: make([]*entry, numbers, numbers+room),
	}
	t.entries[head] = &entry{number: head, prev: head, next: head}
	return t
}

func (t *table) hash(name []byte) uint64 { return maphash.Bytes(t.seed, name) & t.bits }

func (t *table) get(k key) *entry {
	var room [maxKeyLen]byte
	return t.find(append(room[:0], k...))
}

// find is get for a key in bytes.
func (t *table) find(name []byte) *entry {
	for n := t.first[t.hash(name)]; n != none; {
		e := t.entries[n]
		if e.is(name) {
			return e
		}
		n = e.same
	}
	return nil
}

// has reports whether e is what its key finds.
func (t *table) has(e *entry) bool { return t.entries[e.number] == e }

func (t *table) len() int { return len(t.entries) - numbers - len(t.free) }

// add takes an entry whose key has none.
func (t *table) add(e *entry) {
	if last := len(t.free) - 1; last >= 0 {
		e.number, t.free = t.free[last], t.free[:last]
		t.entries[e.number] = e
	} else {
		e.number = uint32(len(t.entries))
		t.entries = append(t.entries, e)
	}
	h := t.hash(e.name())
	e.same, t.first[h] = t.first[h], e.number
}

// remove takes out an entry, which must be in no ring.
func (t *table) remove(e *entry) {
	h := t.hash(e.name())
	if first := t.first[h]; first != e.number {
		before := t.entries[first]
		for before.same != e.number {
			before = t.entries[before.same]
		}
		before.same = e.same
	} else if e.same != none {
		t.first[h] = e.same
	} else {
		delete(t.first, h)
	}
	t.entries[e.number] = nil
	t.free = append(t.free, e.number)
	e.number, e.same = none, none
}

// link puts an entry at the front of the ring.
func (t *table) link(e *entry) {
	ring := t.entries[head]
	e.prev, e.next = head, ring.next
	t.entries[e.next].prev = e.number
	ring.next = e.number
}

func (t *table) unlink(e *entry) {
	t.entries[e.prev].next, t.entries[e.next].prev = e.next, e.prev
	e.prev, e.next = none, none
}

// linked reports whether an entry is in the ring.
func (e *entry) linked() bool { return e.next != none }

// newest is the front of the ring, oldest its end; nil: it is empty.
func (t *table) newest() *entry { return t.older(t.entries[head]) }
func (t *table) oldest() *entry { return t.newer(t.entries[head]) }

// older is the next one in the ring, newer the one before; nil: there is none.
func (t *table) older(e *entry) *entry { return t.entry(e.next) }
func (t *table) newer(e *entry) *entry { return t.entry(e.prev) }

func (t *table) entry(n uint32) *entry {
	if n == head {
		return nil
	}
	return t.entries[n]
}
