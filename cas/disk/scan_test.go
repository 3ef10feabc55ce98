package disk

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hearth-build/hearth/cas"
)

func TestKeyIsReversible(t *testing.T) {
	for _, f := range cas.Functions() {
		for _, size := range []int64{1, 127, 128, 4711, 1<<63 - 1} {
			for _, ns := range []namespaceID{0, 1, 127, 128, 1<<32 - 1} {
				d, err := cas.ParseDigest(f, f.Sum([]byte("some blob")).Hash(), size)
				if err != nil {
					t.Fatal(err)
				}
				k := newKey(ns, d)
				if gotNS, got := k.split(); gotNS != ns || got != d || len(k) > maxKeyLen {
					t.Errorf("%v in %d became %v in %d", d, ns, got, gotNS)
				}
			}
		}
	}
}

func TestParseFile(t *testing.T) {
	d := cas.SHA256.Sum([]byte("abc"))
	good := d.Hash() + "-3"
	for name, want := range map[string]struct{ ok, executable bool }{
		good:                               {true, false},
		good + ".x":                        {true, true},
		good + ".x.x":                      {},
		good + " ":                         {},
		d.Hash() + "-03":                   {},
		d.Hash() + "-+3":                   {},
		d.Hash() + "--3":                   {},
		d.Hash() + "-0":                    {},
		d.Hash():                           {},
		"-3":                               {},
		strings.ToUpper(good):              {},
		"00" + good[2:]:                    {}, // another directory's
		d.Hash()[:63] + "-3":               {},
		d.Hash() + "-99999999999999999999": {},
	} {
		got, executable, ok := parseFile(cas.SHA256, d.Hash()[:2], name)
		if ok != want.ok || (ok && (executable != want.executable || got != d)) {
			t.Errorf("%q: %v, executable %t, ok %t", name, got, executable, ok)
		}
	}
	if got := (layout{"/d"}).blob("i.n", d); got != "/d/cas/i.n/sha256/ba/"+good {
		t.Errorf("got %q: the layout must not change without its version", got)
	}
}

// BenchmarkOpen starts with 200,000 blobs (hard links to a few files).
func BenchmarkOpen(b *testing.B) {
	d := open(b, Options{})
	mustClose(b, d)
	makeBlobs(b, d, 200_000)
	for b.Loop() {
		d, err := Open(b.Context(), Options{Dir: d.layout.dir, MaxBytes: 1 << 50})
		if err != nil {
			b.Fatal(err)
		}
		if n := d.Stats().Blobs; n != 200_000 {
			b.Fatalf("%d blobs", n)
		}
		b.StopTimer()
		mustClose(b, d)
		b.StartTimer()
	}
}

func makeBlobs(b *testing.B, d *Disk, n int) {
	b.Helper()
	source := ""
	for i := range n {
		digest, err := cas.ParseDigest(cas.SHA256, cas.SHA256.Sum(fmt.Append(nil, i)).Hash(), 1000)
		if err != nil {
			b.Fatal(err)
		}
		path := d.layout.blob("i.", digest)
		if err := os.MkdirAll(filepath.Dir(path), dirMode); err != nil {
			b.Fatal(err)
		}
		if i%50_000 == 0 { // an inode has 65,000 names on ext4
			source = path
			err = os.WriteFile(path, make([]byte, 1000), blobMode)
		} else {
			err = os.Link(source, path)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}
