package disk

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2"

	"github.com/hearth-build/hearth/cas"
)

// together stores blobs in one batch.
func together(t *testing.T, s *Store, blobs ...[]byte) {
	t.Helper()
	var contents []*cas.Content
	for _, b := range blobs {
		contents = append(contents, cas.SHA256.Content(b))
	}
	if err := errors.Join(s.PutAll(t.Context(), contents)...); err != nil {
		t.Fatal(err)
	}
}

// ofSize returns n blobs.
func ofSize(size, n int) (blobs [][]byte) {
	for i := range n {
		blobs = append(blobs, random(uint64(size)<<20|uint64(i), size))
	}
	return blobs
}

// mustBeStored checks that blobs are on the key-value side, not only in memory.
func mustBeStored(t *testing.T, s *Store, blobs ...[]byte) {
	t.Helper()
	settle(t, s.disk)
	for i, b := range blobs {
		e := s.disk.index.blobs.get(newKey(s.id, cas.SHA256.Sum(b)))
		if e == nil {
			t.Fatalf("blob %d is not in the index", i)
		}
		if got, err := stored(s.disk, e); err != nil || !bytes.Equal(got, b) {
			t.Fatalf("blob %d has %d bytes, %v", i, len(got), err)
		}
	}
}

// bundles returns how many packs and values by themselves there are.
func bundles(t *testing.T, d *Disk) (packs, alone int) {
	t.Helper()
	settle(t, d)
	odd, err := d.values.each(t.Context(), 0, math.MaxInt64, func(b *bundle) error {
		if len(b.keys[1]) > 0 {
			packs++
		} else {
			alone++
		}
		return nil
	})
	if err != nil || odd != 0 {
		t.Fatal(odd, err)
	}
	return packs, alone
}

// What comes together lies together, of whatever sizes it is, and is there after a start.
func TestPacks(t *testing.T) {
	dir := t.TempDir()
	for what, test := range map[string]struct {
		blobs        [][]byte
		packs, alone int
	}{
		"one":                  {ofSize(1000, 1), 0, 1},
		"two":                  {ofSize(1000, 2), 1, 0},
		"more than a pack":     {ofSize(1000, 20), 3, 0},    // 8 each
		"more than a batch":    {ofSize(900, 1000), 112, 0}, // 9 each
		"tiny ones":            {ofSize(10, 3*maxPacked), 3, 0},
		"half a pack each":     {ofSize(packBytes/2-sealLen, 4), 2, 0},
		"too large for a pack": {ofSize(packBytes/2, 4), 0, 4},
		"all sizes":            {slices.Concat(ofSize(1, 1), ofSize(20_000, 1), ofSize(2, 2), ofSize(5000, 1), ofSize(3, 1)), 3, 2},
		"a file among them":    {slices.Concat(ofSize(100, 2), ofSize(splitSize, 1), ofSize(101, 2)), 1, 0},
		"one of them twice":    {slices.Concat(ofSize(200, 2), ofSize(200, 2), ofSize(201, 1)), 1, 0},
	} {
		t.Run(what, func(t *testing.T) {
			options := Options{Dir: dir + "/" + what}
			d := open(t, options)
			together(t, d.Namespace("n"), test.blobs...)
			if packs, alone := bundles(t, d); packs != test.packs || alone != test.alone {
				t.Errorf("%d packs and %d by themselves, want %d and %d", packs, alone, test.packs, test.alone)
			}
			for range 2 {
				small := slices.DeleteFunc(slices.Clone(test.blobs), func(b []byte) bool { return len(b) >= splitSize })
				mustBeStored(t, d.Namespace("n"), small...)
				for _, b := range test.blobs {
					mustHold(t, d.Namespace("n"), b)
				}
				before := d.Stats()
				mustClose(t, d)
				d = open(t, options)
				if after := d.Stats(); after.Blobs != before.Blobs || after.Bytes != before.Bytes {
					t.Errorf("before the start %+v, after it %+v", before, after)
				}
			}
		})
	}
}

// A damaged blob in a pack is dropped alone, also for the next start.
func TestDamagedInPack(t *testing.T) {
	dir := t.TempDir()
	d := open(t, Options{Dir: dir})
	s := d.Namespace("")
	blobs := ofSize(1000, 8)
	together(t, s, blobs...)
	settle(t, d)
	e := d.index.blobs.get(newKey(s.id, cas.SHA256.Sum(blobs[3])))
	k := appendDataKey(nil, e.started(e.written))
	raw, closer, err := d.values.db.Get(k)
	if err != nil {
		t.Fatal(err)
	}
	raw = bytes.Clone(raw)
	raw[int(e.offset)+500] ^= 1
	if err := errors.Join(closer.Close(), d.values.db.Set(k, raw, pebble.Sync)); err != nil {
		t.Fatal(err)
	}
	mustClose(t, d)
	for round := range 2 {
		d = open(t, Options{Dir: dir})
		if there := d.Stats().Blobs; there != len(blobs)-round {
			t.Errorf("%d blobs at start %d", there, round)
		}
		s = d.Namespace("")
		for i, b := range blobs {
			if i == 3 {
				mustLack(t, s, cas.SHA256.Sum(b))
			} else {
				mustHold(t, s, b)
			}
		}
		settle(t, d)
		mustClose(t, d)
	}
	d = open(t, Options{Dir: dir})
	if packs, alone := bundles(t, d); packs != 0 || alone != len(blobs)-1 {
		t.Errorf("%d packs and %d by themselves", packs, alone)
	}
	put(t, d.Namespace(""), blobs[3])
	mustBeStored(t, d.Namespace(""), blobs...)
}

// What cannot be read is gone for good, with all that lies in the same pack.
func TestUnreadablePack(t *testing.T) {
	dir := t.TempDir()
	d := open(t, Options{Dir: dir})
	blobs := ofSize(1000, 8)
	together(t, d.Namespace(""), blobs...)
	mustClose(t, d)
	names, err := filepath.Glob(filepath.Join(d.layout.values(), "*"+valuesSuffix))
	if err != nil || len(names) != 1 {
		t.Fatal(names, err)
	}
	if err := flip(names[0], 2000); err != nil {
		t.Fatal(err)
	}
	d = open(t, Options{Dir: dir})
	mustLack(t, d.Namespace(""), cas.SHA256.Sum(blobs[3]))
	if packs, alone := bundles(t, d); packs != 0 || alone != 0 || d.Stats().Blobs != 0 {
		t.Errorf("%d packs and %d by themselves, %d blobs", packs, alone, d.Stats().Blobs)
	}
	mustClose(t, d)
	d = open(t, Options{Dir: dir})
	if n := d.Stats().Blobs; n != 0 {
		t.Errorf("%d blobs are back", n)
	}
	together(t, d.Namespace(""), blobs...)
	mustBeStored(t, d.Namespace(""), blobs...)
}

// dropHalf makes a store in which of each second pack all is dead, and of the others half.
func dropHalf(t *testing.T, d *Disk) (alive [][]byte) {
	t.Helper()
	s := d.Namespace("")
	blobs := ofSize(1000, 8*8)
	together(t, s, blobs...)
	settle(t, d)
	x := d.index
	x.mu.Lock()
	defer x.mu.Unlock()
	for i, b := range blobs {
		if i/8%2 == 0 || i%2 == 0 {
			x.dropLocked(x.blobs.get(newKey(s.id, cas.SHA256.Sum(b))))
		} else {
			alive = append(alive, b)
		}
	}
	return alive
}

// A sweep leaves nothing that is dead, and what is alive can be read all the time.
func TestSweepOfPacks(t *testing.T) {
	dir := t.TempDir()
	d := open(t, Options{Dir: dir})
	s := d.Namespace("")
	alive := dropHalf(t, d)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	reading := make(chan error, 1) // the reader ends also if nobody waits for it
	go func() {
		for ctx.Err() == nil {
			for i, b := range alive {
				f := d.index.use(newKey(s.id, cas.SHA256.Sum(b)))
				f.data = nil // from the key-value side
				got, err := d.fetchValue(f)
				if err != nil || !bytes.Equal(got, b) {
					reading <- fmt.Errorf("blob %d: %d bytes, %w", i, len(got), err)
					return
				}
			}
		}
		reading <- nil
	}()
	d.index.queueClear(stretch{to: math.MaxInt64})
	settle(t, d)
	stop()
	if err := <-reading; err != nil {
		t.Fatal(err)
	}
	if packs, by := bundles(t, d); packs != 0 || by != len(alive) {
		t.Errorf("%d packs and %d by themselves, want 0 and %d", packs, by, len(alive))
	}
	mustBeStored(t, s, alive...)
	mustClose(t, d)
	d = open(t, Options{Dir: dir})
	if n := d.Stats().Blobs; n != len(alive) {
		t.Errorf("%d blobs, want %d", n, len(alive))
	}
	mustBeStored(t, d.Namespace(""), alive...)
}

// After a crash between the two steps of a sweep each blob is there once.
func TestCrashInASweep(t *testing.T) {
	dir := t.TempDir()
	d := open(t, Options{Dir: dir})
	alive := dropHalf(t, d)
	s := sweep{disk: d, kept: d.values.db.NewBatch(), dead: d.values.db.NewBatch()}
	if _, err := d.values.each(t.Context(), 0, math.MaxInt64, s.add); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(d.values.db.Apply(s.kept, pebble.Sync), s.dead.Close()); err != nil {
		t.Fatal(err)
	}
	mustClose(t, d)
	d = open(t, Options{Dir: dir})
	if n := d.Stats().Blobs; n != 8*8 { // what was dead is back
		t.Errorf("%d blobs", n)
	}
	mustBeStored(t, d.Namespace(""), alive...)
	d.index.queueClear(stretch{to: math.MaxInt64})
	mustBeStored(t, d.Namespace(""), alive...)
	if packs, by := bundles(t, d); packs != 4 || by != 4*8 {
		t.Errorf("%d packs and %d by themselves", packs, by)
	}
}

// bundlesOf reads keys and the lengths of their values, as each does.
func bundlesOf(keys [][]byte, lengths []int) (whole [][]bundled, odd int) {
	var b bundle
	for i, k := range keys {
		ok, fine := b.read(k, pebble.LazyValue{ValueOrHandle: make([]byte, lengths[i])})
		if !fine {
			odd++
		}
		if ok {
			whole = append(whole, slices.Clone(b.values))
		}
	}
	return whole, odd
}

// Keys that make no sense hide nothing that does.
func TestOddBundles(t *testing.T) {
	name := func(record bool, size int) []byte {
		d := cas.SHA256.Sum(random(uint64(size), size))
		k := newKey(0, d)
		if record {
			k = newRecordKey(0, d)
		}
		return appendName(nil, []byte(k), "i.")
	}
	contents := func(at int64, names ...[]byte) []byte {
		return append(appendContentsKey(nil, at), bytes.Join(names, nil)...)
	}
	data := func(at int64) []byte { return appendDataKey(nil, at) }
	alone := append(appendTime(nil, 9), name(false, 7)...)
	a, b := name(false, 5), name(false, 6)
	endless, err := cas.ParseDigest(cas.SHA256, cas.SHA256.Sum(nil).Hash(), math.MaxInt64)
	if err != nil {
		t.Fatal(err)
	}
	huge := appendName(nil, []byte(newKey(0, endless)), "i.") // twice that is 6, with the seals
	for what, test := range map[string]struct {
		keys    [][]byte
		lengths []int
		values  []int // in each bundle
		odd     int
	}{
		"a pack":                   {[][]byte{contents(1, a, b), data(1)}, []int{0, 5 + 6 + 2*sealLen}, []int{2}, 0},
		"a pack and one alone":     {[][]byte{contents(1, a), data(1), alone}, []int{0, 5 + sealLen, 7 + sealLen}, []int{1, 1}, 0},
		"contents without data":    {[][]byte{contents(1, a), alone}, []int{0, 7 + sealLen}, []int{1}, 1},
		"contents twice":           {[][]byte{contents(1, a), contents(2, b), data(2)}, []int{0, 0, 6 + sealLen}, []int{1}, 1},
		"data without contents":    {[][]byte{data(1), alone}, []int{9, 7 + sealLen}, []int{1}, 1},
		"data of another time":     {[][]byte{contents(1, a), data(2), alone}, []int{0, 5 + sealLen, 7 + sealLen}, []int{1}, 1},
		"data that is too short":   {[][]byte{contents(1, a), data(1), alone}, []int{0, 4 + sealLen, 7 + sealLen}, []int{1}, 1},
		"no names":                 {[][]byte{contents(1), data(1)}, []int{0, 0}, nil, 1},
		"half a name":              {[][]byte{contents(1, a, b[:9]), data(1)}, []int{0, 5 + sealLen}, nil, 1},
		"a record":                 {[][]byte{contents(1, name(true, 5)), data(1)}, []int{0, 5 + sealLen}, nil, 1},
		"a wrong length":           {[][]byte{alone}, []int{6 + sealLen}, nil, 1},
		"a size beyond the data":   {[][]byte{contents(1, huge, huge), data(1), alone}, []int{0, 6, 7 + sealLen}, []int{1}, 1},
		"a time at the end of all": {[][]byte{contents(math.MaxInt64-9, a), data(math.MaxInt64 - 9)}, []int{0, 5 + sealLen}, nil, 1},
		"too much": {
			[][]byte{contents(1, slices.Repeat([][]byte{a}, 256)...), data(1)}, []int{0, 256 * (5 + sealLen)}, nil, 1,
		},
	} {
		whole, odd := bundlesOf(test.keys, test.lengths)
		var values []int
		for _, b := range whole {
			values = append(values, len(b))
		}
		if !slices.Equal(values, test.values) || odd != test.odd {
			t.Errorf("%s: %v and %d odd, want %v and %d", what, values, odd, test.values, test.odd)
		}
	}
}

// Whatever the contents of a pack are, each value that they name lies in the data.
func FuzzContents(f *testing.F) {
	good := appendName(nil, []byte(newKey(0, cas.SHA256.Sum([]byte("some blob")))), "i.")
	f.Add(good, 9+sealLen)
	f.Add(slices.Concat(good, good), 2*(9+sealLen))
	f.Add(good[:20], 9)
	huge := slices.Concat(good[:4], binary.AppendUvarint(nil, math.MaxInt64), good[len(good)-32:])
	f.Add(slices.Concat(huge, huge), 6)
	f.Add([]byte{}, 0)
	f.Fuzz(func(t *testing.T, names []byte, length int) {
		if length < 0 || length > 1<<20 {
			return
		}
		whole, odd := bundlesOf([][]byte{append(appendContentsKey(nil, 77), names...), appendDataKey(nil, 77)}, []int{0, length})
		if len(whole)+odd != 1 {
			t.Fatalf("%d whole and %d odd", len(whole), odd)
		}
		if odd == 1 {
			return
		}
		var again []byte
		for i, v := range whole[0] {
			raw, err := (&bundle{raw: pebble.LazyValue{ValueOrHandle: make([]byte, length)}}).record(&v)
			if err != nil || len(raw) != sealLen+int(v.size) || v.written != 77+int64(i) || v.started(v.written) != 77 {
				t.Fatalf("%+v: %d bytes, %v", v, len(raw), err)
			}
			again = append(again, v.name...)
		}
		if !bytes.Equal(again, names) {
			t.Fatalf("%q became %q", names, again)
		}
	})
}

// A store from before there were packs is read as it is.
func TestStoreWithoutPacks(t *testing.T) {
	dir := t.TempDir()
	d := open(t, Options{Dir: dir})
	blobs := ofSize(1000, 10)
	for _, b := range blobs { // each by itself, as all were
		put(t, d.Namespace(""), b)
	}
	if packs, alone := bundles(t, d); packs != 0 || alone != len(blobs) {
		t.Fatalf("%d packs and %d by themselves", packs, alone)
	}
	mustClose(t, d)
	format := d.layout.format()
	if err := os.WriteFile(format, []byte("hearth-cas 3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d = open(t, Options{Dir: dir})
	mustBeStored(t, d.Namespace(""), blobs...)
	if text, err := os.ReadFile(format); err != nil || string(text) != "hearth-cas 4\n" { // older programs would find no packs
		t.Errorf("the format is %q, %v", text, err)
	}
}

// Who reads a record while it is replaced gets one or the other.
func TestReadWhileReplaced(t *testing.T) {
	d, err := load(t.Context(), Options{Dir: t.TempDir()}) // nobody writes but the test
	if err != nil {
		t.Fatal(err)
	}
	r := d.Records("ac", "")
	action := cas.SHA256.Sum([]byte("an action"))
	for turn, data := range []string{"a result", "another one", "one more"} {
		before := d.index.use(newRecordKey(r.id, action))
		if err := r.Put(t.Context(), action, []byte(data)); err != nil {
			t.Fatal(err)
		}
		for range 2 { // before and after it is on the key-value side
			if before.entry != nil {
				before.data = nil
				if got, err := d.fetchValue(before); err != nil || (string(got) != data && len(got) != int(before.size)) {
					t.Errorf("turn %d: %q, %v", turn, got, err)
				}
			}
			d.writeQueued()
		}
		if turn == 1 { // the next one comes when this one is damaged
			before = d.index.use(newRecordKey(r.id, action))
			if err := d.values.db.Set(d.stored(nil, before.entry), []byte("damaged"), pebble.Sync); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := r.Get(t.Context(), action); err != nil || string(got) != data {
			t.Errorf("turn %d: %q, %v", turn, got, err)
		}
	}
	d.stop = func(error) {}
	d.startWriter(t.Context())
	mustClose(t, d)
}
