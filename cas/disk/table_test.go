package disk

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/hearth-build/hearth/cas"
)

// Whatever comes and goes, each key finds its entry, also where many have one hash.
func TestTable(t *testing.T) {
	for _, bits := range []uint32{math.MaxUint32, 3} {
		tab := newTable(0)
		tab.bits = bits
		random := rand.New(rand.NewPCG(1, uint64(bits)))
		want := map[key]*entry{}
		var ring []*entry // newest first
		for range 20_000 {
			// SHA512 has keys that are longer than an entry has room for.
			d := []cas.Function{cas.SHA256, cas.SHA512}[random.IntN(2)].Sum(fmt.Append(nil, random.IntN(100)))
			k := newKey(7, d)
			e := tab.get(k)
			if e != want[k] {
				t.Fatalf("%v finds %v, want %v", d, e, want[k])
			}
			switch {
			case e == nil:
				if random.IntN(2) == 0 {
					e = tab.shelve([]byte(k), d.Size())
				} else if e = newEntry(k, d.Size()); tab.has(e) {
					t.Fatal("an entry is there before it was added")
				}
				tab.add(e)
				tab.link(e)
				want[k], ring = e, slices.Insert(ring, 0, e)
				mustHaveValues(t, &tab, e)
			case random.IntN(3) == 0:
				by := tab.shelve([]byte(k), d.Size())
				tab.replace(e, by)
				if tab.has(e) || !tab.has(by) || e.linked() {
					t.Fatal("an entry is still there after another one took its place")
				}
				want[k], ring[slices.Index(ring, e)] = by, by
				e = by
			default:
				tab.unlink(e)
				tab.remove(e)
				if tab.has(e) || e.linked() {
					t.Fatal("an entry is still there")
				}
				delete(want, k)
				ring = slices.DeleteFunc(ring, func(r *entry) bool { return r == e })
			}
			if e.key() != k {
				t.Fatalf("the key is %q, want %q", e.key(), k)
			}
			mustBeRing(t, &tab, ring)
			if tab.len() != len(want) {
				t.Fatalf("%d entries, want %d", tab.len(), len(want))
			}
		}
		if tab.used > numbers+200 {
			t.Errorf("%d numbers for at most 200 entries", tab.used)
		}
	}
}

// mustHaveValues sets and ends the value of an entry without one.
func mustHaveValues(t *testing.T, tab *table, e *entry) {
	t.Helper()
	o := &op{entry: e}
	before := tab.value(e)
	tab.setValue(e, o)
	with := tab.value(e)
	if tab.setValue(e, nil); before != nil || with != o || tab.value(e) != nil {
		t.Fatalf("an entry had %v as its value, then %v, and at last %v", before, with, tab.value(e))
	}
	tab.setValue(e, o) // until it is removed
}

// Shelves go with what is on them, and nothing takes the memory of an entry that somebody
// may still hold.
func TestShelves(t *testing.T) {
	tab := newTable(0)
	var all []*entry
	for i := range 20 * shelfSize {
		name := []byte(newKey(7, cas.SHA256.Sum(fmt.Append(nil, i))))
		e := tab.shelve(name, int64(i))
		tab.add(e)
		if all = append(all, e); i >= 2*shelfSize {
			tab.remove(all[i-2*shelfSize])
		}
		if i%3 == 0 {
			tab.setValue(e, &op{entry: e})
		}
	}
	if n := len(tab.shelves); n > 4 {
		t.Errorf("%d shelves for what has room on 2", n)
	}
	seen := map[*entry]bool{}
	for i, e := range all {
		there := i >= len(all)-2*shelfSize
		if seen[e] || tab.has(e) != there || e.size != int64(i) || (tab.value(e) != nil) != (there && i%3 == 0) {
			t.Fatalf("entry %d: seen before %t, there %t, %+v", i, seen[e], tab.has(e), e)
		}
		if found := tab.get(e.key()); (found == e) != there {
			t.Fatalf("the key of entry %d finds %v", i, found)
		}
		seen[e] = true
	}
	for _, e := range all[len(all)-2*shelfSize:] {
		tab.remove(e)
	}
	for n, s := range tab.shelves {
		if s.entries != nil || s.values != nil {
			t.Errorf("shelf %d has %d entries", n, s.live)
		}
	}
	if got := slices.Collect(tab.all); len(got) != 0 || tab.len() != 0 {
		t.Errorf("%d entries, %d counted", len(got), tab.len())
	}
}

// Entries are found by their numbers in whichever piece they are.
func TestTableOfPieces(t *testing.T) {
	for _, room := range []int{0, piece - int(numbers), 2 * piece} {
		tab := newTable(room)
		var all []*entry
		for i := range 3*piece + 1 {
			e := newEntry(newKey(7, cas.SHA256.Sum(fmt.Append(nil, i))), int64(i))
			tab.add(e)
			tab.link(e)
			all = append(all, e)
		}
		for i := 0; i < len(all); i += 2 { // and others in their places
			tab.unlink(all[i])
			tab.remove(all[i])
			all[i] = newEntry(newKey(8, cas.SHA256.Sum(fmt.Append(nil, i))), int64(i))
		}
		for i := 0; i < len(all); i += 2 {
			tab.add(all[i])
			tab.link(all[i])
		}
		for i, e := range all {
			if got := tab.get(e.key()); got != e || !tab.has(e) {
				t.Fatalf("with room for %d, entry %d is %v, want %v", room, i, got, e)
			}
		}
		if got := slices.Collect(tab.all); len(got) != len(all) || tab.len() != len(all) || tab.used != numbers+uint32(len(all)) {
			t.Errorf("with room for %d: %d entries, %d counted, %d numbers, want %d", room, len(got), tab.len(), tab.used, len(all))
		}
	}
}

// mustBeRing checks both directions.
func mustBeRing(t *testing.T, tab *table, want []*entry) {
	t.Helper()
	var down, up []*entry
	for e := tab.newest(); e != nil; e = tab.older(e) {
		down = append(down, e)
	}
	for e := tab.oldest(); e != nil; e = tab.newer(e) {
		up = append(up, e)
	}
	slices.Reverse(up)
	if !slices.Equal(down, want) || !slices.Equal(up, want) {
		t.Fatalf("the ring has %d and %d entries, want %d", len(down), len(up), len(want))
	}
}
