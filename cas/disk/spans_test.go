package disk

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// settle waits until nothing is queued: what is written may queue what is moved.
func settle(t *testing.T, d *Disk) {
	t.Helper()
	for added, done := uint64(1), uint64(0); added != done; _, added, done, _ = d.index.queueState() {
		if err := d.drain(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// storedKeys returns the keys of what is on the key-value side, evicted or not, as if each
// had one of its own.
func storedKeys(t *testing.T, d *Disk) (keys []string) {
	t.Helper()
	settle(t, d)
	odd, err := d.values.each(t.Context(), 0, math.MaxInt64, func(b *bundle) error {
		for _, v := range b.values {
			keys = append(keys, string(v.key(nil)))
		}
		return nil
	})
	if err != nil || odd > 0 {
		t.Fatal(odd, err)
	}
	return keys
}

// stored reads the value of an entry on the key-value side, if it has one there.
func stored(d *Disk, e *entry) ([]byte, error) {
	return d.storedValue(found{entry: e, size: e.size, written: e.written, inPack: e.inPack})
}

// mustHoldAll checks that what is in the index is on the key-value side, whole, and how
// much else is there.
func mustHoldAll(t *testing.T, d *Disk) {
	t.Helper()
	keys := storedKeys(t, d)
	entries := d.index.oldestFirst()
	for _, e := range entries {
		if _, err := stored(d, e); err != nil {
			t.Fatalf("%v: %v", e.key(), err)
		}
		if !slices.Contains(keys, string(d.stored(nil, e))) {
			t.Fatalf("%v is not on the key-value side", e.key())
		}
	}
	x := d.index
	x.mu.Lock()
	defer x.mu.Unlock()
	each := charge(fillSize, true)
	// A sweep also takes what died after it was asked for.
	if dead := int64(len(keys)-len(entries)) * each; dead > x.spans.dead || dead > x.small/4+3*x.spans.size {
		t.Errorf("%d bytes on the key-value side are dead, of which %d are known, beside %d", dead, x.spans.dead, x.small)
	}
}

// valueBytes is what the files of values take on the disk, but for spares.
func valueBytes(t *testing.T, d *Disk) (sum int64) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(d.layout.values(), "*"+valuesSuffix))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		st, err := os.Stat(name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // it went meanwhile
			t.Fatal(err)
		}
		if err == nil {
			sum += st.Size()
		}
	}
	return sum
}

const fillSize = 1 << 10

func numbered(n int) []byte {
	return binary.BigEndian.AppendUint64(make([]byte, fillSize-8, fillSize), uint64(n))
}

// What is evicted goes with all that was stored at its time, and what is used stays.
func TestEvictedValuesGo(t *testing.T) {
	options := Options{Dir: t.TempDir(), MaxBytes: 1 << 20}
	const all = 5000
	for name, test := range map[string]struct{ used, batch int }{ // each so many
		"in order":                          {all, 1},
		"but for some that are used":        {40, 1},
		"packed":                            {all, 20},
		"packed, some of few packs used":    {40, 20},
		"packed, one or two of a pack used": {10, 20},
	} {
		t.Run(name, func(t *testing.T) {
			options.Dir = t.TempDir()
			d := open(t, options)
			s, used := d.Namespace(""), test.used
			var batch [][]byte
			for n := range all {
				if batch = append(batch, numbered(n)); len(batch) == test.batch {
					together(t, s, batch...)
					batch = nil
				}
				for i := used; n%200 == 199 && i <= n; i += used {
					mustHold(t, s, numbered(i))
				}
				if n%200 == 199 {
					if err := d.sync(t.Context(), false); err != nil {
						t.Fatal(err)
					}
				}
				if n%1000 == 999 {
					mustHoldAll(t, d)
				}
			}
			settle(t, d)
			d.values.db.TestOnlyWaitForCleaning() // the library removes files in the background
			if got := valueBytes(t, d); got > 3*options.MaxBytes/2 {
				t.Errorf("files of values take %d bytes, of %d that are allowed", got, options.MaxBytes)
			}
			if is := d.Stats(); is.Evicted < all-1000 || is.Bytes > options.MaxBytes {
				t.Errorf("%+v", is)
			}
			kept := d.index.oldestFirst()
			mustClose(t, d)
			// What was dead is no younger than before.
			d = open(t, options)
			mustHoldAll(t, d)
			for _, e := range kept {
				if d.index.blobs.get(e.key()) == nil {
					t.Fatalf("%v gave way to what had been evicted", e.key())
				}
			}
		})
	}
}

// A span does not begin among values that lie together, nor before what came out of them.
func TestSpansBeginBetweenPacks(t *testing.T) {
	s := spans{size: 100}
	for _, p := range []struct {
		written, bytes int64
		values         int
		first          bool
	}{
		{10, 150, 5, true}, // until 14
		{12, 30, 1, false},
		{14, 30, 1, false},
		{15, 80, 2, true},
		{16, 30, 1, false},
		{17, 30, 1, true},
	} {
		if first := s.add(p.written, p.bytes, p.values); first != p.first {
			t.Errorf("at %d: %t", p.written, first)
		}
	}
}

// Whatever dies in whatever order, all that is dead is cleared once, and nothing else.
func TestSpans(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	s := spans{size: 100}
	state := make(map[int64]int) // of a time: 1 alive, 2 dead, 3 cleared
	check := func(c stretch) {
		for at, is := range state {
			switch {
			case at < c.from || at >= c.to || is == 3:
			case is == 2:
				state[at] = 3
			case c.whole:
				t.Fatalf("%+v has what is alive at %d", c, at)
			}
		}
	}
	var now int64
	var alive []int64
	for range 20_000 {
		if len(alive) < 300 {
			now += 1 + r.Int64N(5)
			s.add(now, 10, 1)
			state[now] = 1
			alive = append(alive, now)
			continue
		}
		n := min(r.IntN(len(alive)), r.IntN(40))
		at := alive[n]
		alive = slices.Delete(alive, n, n+1)
		state[at] = 2
		s.died(at, 10)
		if c, ok := s.clear(at, 300); ok {
			check(c)
		}
		var dead int64
		for at, is := range state {
			if is == 2 {
				dead += 10
			} else if is == 3 {
				delete(state, at)
			}
		}
		if dead != s.dead || dead > 400 {
			t.Fatalf("%d bytes are dead, by the spans %d", dead, s.dead)
		}
	}
	for _, c := range s.takeAll() {
		check(c)
	}
	for at, is := range state {
		if is == 2 {
			t.Errorf("what died at %d is still there", at)
		}
	}
}
