package disk

import (
	"math"
	"testing"

	"github.com/hearth-build/hearth/cas"
)

// What moves is in its old place until it is in the new one, also beside what cannot move:
// a kill at any moment loses nothing.
func TestMovedValuesAreNowhereMissing(t *testing.T) {
	t.Run("alone", func(t *testing.T) {
		mustMove(t, func(s *Store, blobs [][]byte) {
			for _, b := range blobs {
				put(t, s, b)
			}
		})
	})
	t.Run("packed", func(t *testing.T) {
		mustMove(t, func(s *Store, blobs [][]byte) { together(t, s, blobs...) })
	})
}

// unwritten makes a store in which nobody writes but the test, and blobs for it.
func unwritten(t *testing.T) (d *Disk, blobs [][]byte) {
	t.Helper()
	d, err := load(t.Context(), Options{Dir: t.TempDir(), MaxBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	for n := range 200 {
		blobs = append(blobs, numbered(n))
	}
	return d, blobs
}

func mustMove(t *testing.T, store func(s *Store, blobs [][]byte)) {
	d, blobs := unwritten(t)
	s := d.Namespace("")
	store(s, blobs)
	d.writeQueued()
	places := make(map[int]found) // old ones
	for n := range 50 {
		e := d.index.blobs.get(newKey(s.id, put(t, s, numbered(n))))
		places[n] = d.index.look(e)
	}
	last := d.index.blobs.get(newKey(s.id, put(t, s, numbered(50)))).written
	_, f, own := d.index.claimExisting(newKey(s.id, put(t, s, numbered(7)))) // it has to stay
	if !own {
		t.Fatal("somebody has the blob")
	}
	if err := d.clear(stretch{from: 0, to: last, move: true}); err != nil {
		t.Fatal(err)
	}
	moved := 0
	for n, place := range places {
		if _, err := d.storedValue(place); err != nil {
			t.Errorf("%d left before it was in its new place: %v", n, err)
		}
		if e := d.index.blobs.get(newKey(s.id, put(t, s, numbered(n)))); e.written != place.written {
			moved++
		}
	}
	if moved != len(places)-1 {
		t.Errorf("%d of %d moved", moved, len(places))
	}
	for d.index.queue.bytes > 0 {
		d.writeQueued()
	}
	for n, place := range places {
		e := d.index.blobs.get(newKey(s.id, put(t, s, numbered(n))))
		if _, err := stored(d, e); err != nil {
			t.Errorf("%d is nowhere: %v", n, err)
		}
		if n == 7 {
			place.inPack = inPack{} // all else in its pack is gone
		}
		if _, err := d.storedValue(place); (err == nil) != (n == 7) {
			t.Errorf("%d is in its old place, %v", n, err)
		}
	}
	d.index.finish(newKey(s.id, put(t, s, numbered(7))), f)
	d.index.queueClear(stretch{from: 0, to: math.MaxInt64})
	d.writeQueued()
	d.stop = func(error) {}
	d.startWriter(t.Context())
	mustClose(t, d)
}

// What lies in a pack with a damaged blob is nowhere missing, also if it is on the move when the
// damage is found.
func TestDamageDuringAMove(t *testing.T) {
	d, blobs := unwritten(t)
	s := d.Namespace("")
	together(t, s, blobs...)
	d.writeQueued()
	of := func(n int) *entry { return d.index.blobs.get(newKey(s.id, cas.SHA256.Sum(blobs[n]))) }
	places := make(map[int]found) // old ones
	for n := range 48 {
		places[n] = d.index.look(of(n))
	}
	d.index.queueClear(stretch{to: of(46).written, move: true}) // which leaves some of a pack
	if !d.index.drop(of(3)) || !d.index.drop(of(45)) {
		t.Fatal("what is damaged is not dropped")
	}
	for turn := 0; d.index.queue.bytes > 0 || len(d.index.queue.ops) > 0; turn++ {
		d.writeQueued()
		for n, place := range places {
			if n == 3 || n == 45 {
				continue
			}
			alone := place
			alone.inPack = inPack{}
			_, inPack := d.storedValue(place)
			_, itself := d.storedValue(alone)
			if _, now := stored(d, of(n)); inPack != nil && itself != nil && now != nil {
				t.Fatalf("after turn %d of the writer %d is nowhere: %v", turn, n, now)
			}
		}
	}
	for _, n := range []int{3, 45} {
		if _, err := d.storedValue(places[n]); err == nil {
			t.Errorf("what was dropped is there, %d", n)
		}
	}
	d.stop = func(error) {}
	d.startWriter(t.Context())
	mustClose(t, d)
}
