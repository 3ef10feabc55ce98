package disk

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hearth-build/hearth/cas"
)

// filled is a store with blobs of all kinds and a record, and their digests.
func filled(t *testing.T, dir string) (*Disk, []cas.Digest) {
	t.Helper()
	d := open(t, Options{Dir: dir, ScrubRate: -1})
	var ds []cas.Digest
	for i, size := range []int{10, 1000, 20_000, 30_000, 30_000, 100_000, 3 << 20} {
		ds = append(ds, put(t, d.Namespace(""), random(uint64(i), size)))
	}
	if err := d.Records("ac", "").Put(t.Context(), ds[0], []byte("a record")); err != nil {
		t.Fatal(err)
	}
	return d, ds
}

// flipValue damages the values in the files of the key-value side that match.
func flipValue(t *testing.T, d *Disk, pattern string) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(d.layout.values(), pattern))
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	for _, name := range names {
		st, err := os.Stat(name)
		if err == nil {
			err = flip(name, st.Size()/2)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestVerify(t *testing.T) {
	dir := t.TempDir()
	d, ds := filled(t, dir)
	mustClose(t, d)
	verify := func() Report {
		t.Helper()
		r, err := Verify(t.Context(), Options{Dir: dir})
		if err != nil {
			t.Error(err)
		}
		return r
	}
	if r := verify(); len(r.Dropped) != 0 || r.Bytes < 3<<20 || r.Checked != len(ds)+1 {
		t.Errorf("a good store: %+v", r)
	}
	flipQuietly(t, d.Namespace("").filePath(ds[6]))
	flipValue(t, d, "*.blob")
	r := verify()
	if len(r.Dropped) < 2 || !slices.ContainsFunc(r.Dropped, func(p Drop) bool { return p.Digest == ds[6] && p.Namespace == "i." }) {
		t.Errorf("of two damaged files %v was told", r.Dropped)
	}
	for _, p := range r.Dropped {
		if !strings.Contains(p.String(), p.Digest.Hash()) {
			t.Errorf("%q does not name the blob", p)
		}
	}
	if r := verify(); len(r.Dropped) != 0 {
		t.Errorf("damage was found again: %v", r.Dropped)
	}
	// What is left is what was not told of.
	d = open(t, Options{Dir: dir})
	missing, err := d.Namespace("").FindMissing(t.Context(), ds)
	if err != nil || len(missing) != len(r.Dropped) {
		t.Errorf("%v are missing, %v, and %v was told", missing, err, r.Dropped)
	}
	if _, err := Verify(t.Context(), Options{Dir: dir}); err == nil {
		t.Error("a store in use is checked")
	}
}

// A stop ends a check, and damages nothing.
func TestVerifyStops(t *testing.T) {
	dir := t.TempDir()
	d, ds := filled(t, dir)
	mustClose(t, d)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if r, err := Verify(ctx, Options{Dir: dir}); !errors.Is(err, context.Canceled) || len(r.Dropped) != 0 {
		t.Errorf("%+v, %v", r, err)
	}
	d = open(t, Options{Dir: dir})
	if missing, err := d.Namespace("").FindMissing(t.Context(), ds); err != nil || len(missing) != 0 {
		t.Errorf("%v are missing, %v", missing, err)
	}
}

// REAPI C20: damage that nobody asks for is found all the same, at the pace that
// was asked for.
func TestScrub(t *testing.T) {
	dir := t.TempDir()
	d, ds := filled(t, dir)
	mustClose(t, d)
	flipQuietly(t, d.Namespace("").filePath(ds[6]))
	synctest.Test(t, func(t *testing.T) {
		var drops []Drop
		// 3 MiB and some in half a minute.
		d := open(t, Options{Dir: dir, ScrubRate: 100 << 10, OnDrop: func(p Drop) { drops = append(drops, p) }})
		<-time.After(scrubDelay + 55*time.Second)
		synctest.Wait()
		if len(drops) != 1 || drops[0].Digest != ds[6] || drops[0].Err != nil {
			t.Errorf("found %v", drops)
		}
		mustLack(t, d.Namespace(""), ds[6])
		put(t, d.Namespace(""), random(6, 3<<20))
		mustHold(t, d.Namespace(""), random(6, 3<<20))
	})
}

func TestScrubTakesItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &Disk{options: Options{ScrubRate: 1 << 20}}
		start := time.Now()
		for range 40 {
			if err := d.pace(t.Context(), 256<<10); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(start); took != 10*time.Second {
			t.Errorf("10 MiB at 1 MiB/s took %v", took)
		}
	})
}
