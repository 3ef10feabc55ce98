package disk

// shelf holds the entries of small blobs and records that were stored one after the other.
// There can be millions: where each had memory of its own, the garbage collector took 30 ms
// of a processor to look at 1.7 million of them.
// An entry's place is not used again, since somebody may still hold the entry; a
// shelf goes when all of it is dead. Most of what is alive moves to another shelf before the
// span of its values is cleared (move.go); what cannot move keeps 1.3 KB of memory.
type shelf struct {
	entries  *[shelfSize]entry // nil: the shelf is free
	values   *[shelfSize]*op   // of entries, if they are in memory; nil: none is
	made     uint8             // entries that were ever in use
	live     uint8
	inMemory uint8 // values
}

const (
	shelfSize = 16
	// onShelf is in the numbers of entries on shelves.
	onShelf uint32 = 1 << 31
)

// shelve makes an entry for a value, which is to be added soon. It has a number already.
func (t *table) shelve(name []byte, size int64) *entry {
	if len(name) > keyRoom {
		return newEntry(name, size)
	}
	if n := int(t.open); n >= len(t.shelves) || t.shelves[n].entries == nil || t.shelves[n].made == shelfSize {
		t.openShelf()
	}
	s := &t.shelves[t.open]
	e := &s.entries[s.made]
	e.fill(name, size)
	e.number = onShelf | t.open*shelfSize | uint32(s.made)
	s.made++
	s.live++
	return e
}

func (t *table) openShelf() {
	if last := len(t.freeShelves) - 1; last >= 0 {
		t.open, t.freeShelves = t.freeShelves[last], t.freeShelves[:last]
	} else {
		t.open = uint32(len(t.shelves))
		t.shelves = append(t.shelves, shelf{})
	}
	t.shelves[t.open].entries = new([shelfSize]entry)
}

// shelf returns the one of a number that is on one.
func (t *table) shelf(number uint32) *shelf { return &t.shelves[number&^onShelf/shelfSize] }

// leaveShelf takes a number away.
func (t *table) leaveShelf(number uint32) {
	s := t.shelf(number)
	s.set(number, nil)
	if s.live--; s.live == 0 && s.made == shelfSize {
		*s = shelf{}
		t.freeShelves = append(t.freeShelves, number&^onShelf/shelfSize)
	}
}

func (s *shelf) value(number uint32) *op {
	if s.values == nil {
		return nil
	}
	return s.values[number%shelfSize]
}

func (s *shelf) set(number uint32, o *op) {
	if s.values == nil {
		if o == nil {
			return
		}
		s.values = new([shelfSize]*op)
	}
	at := &s.values[number%shelfSize]
	if *at != nil {
		s.inMemory--
	}
	if *at = o; o != nil {
		s.inMemory++
	}
	if s.inMemory == 0 {
		s.values = nil
	}
}
