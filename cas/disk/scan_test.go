package disk

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
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

func TestStoredKeyIsReversible(t *testing.T) {
	for _, f := range cas.Functions() {
		for _, d := range []cas.Digest{f.Empty(), f.Sum([]byte("some blob")), f.Sum(make([]byte, 300))} {
			for _, k := range []key{newKey(7, d), newRecordKey(300, d)} {
				ns, _ := k.split()
				name := appendName(nil, []byte(k), "i.team")
				got, ok := parseStored(slices.Concat([]byte("\x01\x02\x03\x04\x05\x06\x07\x08"), name))
				if !ok || got.written != 0x0102030405060708 || !bytes.Equal(got.name, name) || string(got.dir) != "i.team" || got.size != d.Size() || got.isRecord() != k.isRecord() || got.in(ns) != k {
					t.Errorf("%q became %+v, ok %t", string(k), got, ok)
				}
			}
		}
	}
}

func TestParseStoredRefuses(t *testing.T) {
	const written = "\x00\x00\x00\x00\x00\x00\x00\x01"
	good := string(appendName(nil, []byte(newKey(0, cas.SHA256.Sum([]byte("some blob")))), "i."))
	hash := good[len(good)-32:]
	for what, b := range map[string]string{
		"no name":                   "",
		"no function":               "\x00" + good[1:],
		"a function of others":      "\x07" + good[1:],
		"a directory that ends":     "\x01\xff" + good[2:],
		"a directory above":         "\x01\x02./" + good[4:],
		"no size":                   "\x01\x02i.",
		"a size without end":        "\x01\x02i.\xff" + "\xff\xff",
		"a size that is negative":   "\x01\x02i.\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01" + hash,
		"a size in more bytes":      "\x01\x02i.\x89\x00" + hash,
		"a size that cannot be":     "\x01\x02i.\x00" + hash,
		"a short hash":              good[:len(good)-1],
		"a long hash":               good + "x",
		"the hash of another, SHA1": "\x02" + good[1:],
	} {
		if k, ok := parseStored([]byte(written + b)); ok {
			t.Errorf("%s: %+v", what, k)
		}
	}
	if k, ok := parseStored([]byte(good)); ok { // whose first bytes are the time, then
		t.Errorf("no time: %+v", k)
	}
	if _, ok := parseStored([]byte(written + good)); !ok {
		t.Errorf("%q is refused", good)
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
