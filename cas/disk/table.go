package disk

import (
	"hash/maphash"
	"math"
	"math/bits"
)

// table finds entries by their keys. There can be millions of them, at which the garbage
// collector should not look over and over: keys are part of their entries, links and slots
// know entries by their numbers, and most entries are on shelves (shelf.go).
//
// Nearly every look at it waits for memory, so that one place has to do: a slot is eight
// bytes, a number behind a tag (half of a hash), and free slots follow full ones soon
// (linear probing). The upper bits of the tag say where to begin.
type table struct {
	seed    maphash.Seed
	bits    uint32   // of tags: fewer make many keys share one
	slots   []uint64 // a power of two; 0: free
	shift   int      // makes a tag the number of a slot
	touched uint64   // keeps the compiler from leaving out what touch does
	count   int
	// places are by number, of entries that are on no shelf. They grow by pieces: a larger
	// array in place of one that is full means fresh memory for all of it.
	places []*[piece]place
	used   uint32 // numbers that were ever in use
	free   []uint32

	shelves     []shelf
	freeShelves []uint32
	open        uint32 // the shelf that gets the next entry
}

// place is where an entry is found by its number.
type place struct {
	entry *entry // nil: the number is free
	value *op    // nil: not in memory
}

const (
	none    uint32 = 0 // is no entry
	head    uint32 = 1 // of the ring is none either
	numbers uint32 = 2 // begin those of entries

	piece = 1 << 12 // places

	tagBits  = 32
	minSlots = 64
)

func newTable(room int) table {
	t := table{seed: maphash.MakeSeed(), bits: math.MaxUint32, places: []*[piece]place{new([piece]place)}, used: numbers}
	t.at(head).entry = &entry{number: head, prev: head, next: head}
	t.grow(room)
	return t
}

func (t *table) at(number uint32) *place { return &t.places[number/piece][number%piece] }

// by returns the entry of a number, or the head of the ring.
func (t *table) by(number uint32) *entry {
	if number&onShelf != 0 {
		return &t.shelf(number).entries[number%shelfSize]
	}
	return t.at(number).entry
}

// all yields the entries.
func (t *table) all(yield func(*entry) bool) {
	for n := numbers; n < t.used; n++ {
		if e := t.at(n).entry; e != nil && !yield(e) {
			return
		}
	}
	for _, s := range t.shelves {
		for i := range s.made {
			if e := &s.entries[i]; e.number != none && !yield(e) {
				return
			}
		}
	}
}

// grow makes slots for so many entries.
func (t *table) grow(room int) {
	size := minSlots
	for 3*room > 2*size {
		size *= 2
	}
	old := t.slots
	t.slots, t.shift = make([]uint64, size), tagBits-bits.TrailingZeros(uint(size))
	clear(t.slots) // fresh memory is slow, and slower if it is read before it is written
	for _, s := range old {
		if s != 0 {
			t.put(s)
		}
	}
}

func slot(tag, number uint32) uint64 { return uint64(tag)<<tagBits | uint64(number) }

func tagOf(slot uint64) uint32 { return uint32(slot >> tagBits) }

// tag is what the slot of a key is found by.
func (t *table) tag(name []byte) uint32 { return uint32(maphash.Bytes(t.seed, name)) & t.bits }

// home is where the search for a tag begins.
func (t *table) home(tag uint32) int { return int(tag >> t.shift) }

func (t *table) after(i int) int { return (i + 1) & (len(t.slots) - 1) }

// ahead is how many slots are worth to be touched at once.
const ahead = 64

// touch has the processor bring slots that are needed soon all at the same time, where a
// search for each waits for its own.
func (t *table) touch(tags []uint32) {
	var all uint64
	for _, tag := range tags {
		all |= t.slots[t.home(tag)]
	}
	t.touched = all
}

func (t *table) get(k key) *entry {
	var room [maxKeyLen]byte
	name := append(room[:0], k...)
	return t.find(t.tag(name), name)
}

// find is get for a key in bytes.
func (t *table) find(tag uint32, name []byte) *entry {
	for i := t.home(tag); t.slots[i] != 0; i = t.after(i) {
		if s := t.slots[i]; tagOf(s) == tag {
			if e := t.by(uint32(s)); e.is(name) {
				return e
			}
		}
	}
	return nil
}

// has reports whether e is in the table: it is what its key finds. An entry that was made for
// a shelf counts as well, since it is added at once.
func (t *table) has(e *entry) bool { return e.number != none }

// value is that of an entry, if it is in memory: on its way to the key-value side, or
// recent. An entry that is in the table no more has none.
func (t *table) value(e *entry) *op {
	if e.number&onShelf != 0 {
		return t.shelf(e.number).value(e.number)
	}
	return t.at(e.number).value
}

// setValue sets or ends (nil) that of an entry in the table.
func (t *table) setValue(e *entry, o *op) {
	if e.number&onShelf != 0 {
		t.shelf(e.number).set(e.number, o)
		return
	}
	t.at(e.number).value = o
}

func (t *table) len() int { return t.count }

// add takes an entry whose key has none.
func (t *table) add(e *entry) {
	t.place(e)
	if t.count++; 3*t.count > 2*len(t.slots) {
		t.grow(len(t.slots))
	}
	e.tag = t.tag(e.name())
	t.put(slot(e.tag, e.number))
}

// place gives an entry a number, unless it has one.
func (t *table) place(e *entry) {
	if e.number != none {
		return
	}
	if last := len(t.free) - 1; last >= 0 {
		e.number, t.free = t.free[last], t.free[:last]
	} else {
		e.number, t.used = t.used, t.used+1
		if int(e.number/piece) == len(t.places) {
			t.places = append(t.places, new([piece]place))
		}
	}
	t.at(e.number).entry = e
}

// leave takes an entry's number away.
func (t *table) leave(e *entry) {
	if e.number&onShelf != 0 {
		t.leaveShelf(e.number)
	} else {
		*t.at(e.number) = place{}
		t.free = append(t.free, e.number)
	}
	e.number = none
}

// put fills the first free slot from the home of a tag on.
func (t *table) put(s uint64) {
	i := t.home(tagOf(s))
	for t.slots[i] != 0 {
		i = t.after(i)
	}
	t.slots[i] = s
}

// remove takes out an entry, which must be in no ring.
func (t *table) remove(e *entry) {
	i := t.slotOf(e)
	// What lies behind the gap moves into it, unless it would lie before its home.
	for j := t.after(i); t.slots[j] != 0; j = t.after(j) {
		home := t.home(tagOf(t.slots[j]))
		if mask := len(t.slots) - 1; (j-home)&mask >= (j-i)&mask {
			t.slots[i], i = t.slots[j], j
		}
	}
	t.slots[i] = 0
	t.count--
	t.leave(e)
}

func (t *table) slotOf(e *entry) int {
	i := t.home(e.tag)
	for t.slots[i] != slot(e.tag, e.number) {
		i = t.after(i)
	}
	return i
}

// replace puts an entry with the same key in the place of another one, also in the ring.
func (t *table) replace(e, by *entry) {
	t.place(by)
	by.tag, by.prev, by.next = e.tag, e.prev, e.next
	t.slots[t.slotOf(e)] = slot(by.tag, by.number)
	if e.linked() {
		t.by(e.prev).next, t.by(e.next).prev = by.number, by.number
	}
	e.prev, e.next = none, none
	t.leave(e)
}

// link puts an entry at the front of the ring.
func (t *table) link(e *entry) {
	ring := t.at(head).entry
	e.prev, e.next = head, ring.next
	t.by(e.next).prev = e.number
	ring.next = e.number
}

func (t *table) unlink(e *entry) {
	t.by(e.prev).next, t.by(e.next).prev = e.next, e.prev
	e.prev, e.next = none, none
}

// linked reports whether an entry is in the ring.
func (e *entry) linked() bool { return e.next != none }

// newest is the front of the ring, oldest its end; nil: it is empty.
func (t *table) newest() *entry { return t.older(t.at(head).entry) }
func (t *table) oldest() *entry { return t.newer(t.at(head).entry) }

// older is the next one in the ring, newer the one before; nil: there is none.
func (t *table) older(e *entry) *entry { return t.entry(e.next) }
func (t *table) newer(e *entry) *entry { return t.entry(e.prev) }

func (t *table) entry(n uint32) *entry {
	if n == head {
		return nil
	}
	return t.by(n)
}

// touchOldest is touch for entries at the end of the ring.
func (t *table) touchOldest(tags []uint32) {
	n := 0
	for e := t.oldest(); e != nil && n < len(tags); e = t.newer(e) {
		tags[n] = e.tag
		n++
	}
	t.touch(tags[:n])
}
