package disk

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hearth-build/hearth/cas"
)

// blocks makes a blob that takes n blocks on the disk.
func blocks(name byte, n int) []byte {
	data := make([]byte, n*blockSize)
	data[0] = name
	return data
}

func mustHoldOnly(t *testing.T, s *Store, all map[byte][]byte, want string) {
	t.Helper()
	x := s.disk.index
	x.mu.Lock()
	defer x.mu.Unlock()
	var got []byte
	for name := byte('a'); name <= 'z'; name++ {
		if data, ok := all[name]; ok && x.blobs.get(newKey(s.id, cas.SHA256.Sum(data))) != nil {
			got = append(got, name)
		}
	}
	if string(got) != want {
		t.Errorf("the store holds %q, want %q", got, want)
	}
}

// REAPI C44: what is used stays, and what is leased, as an action's inputs are.
func TestEvictsTheLeastRecentlyUsed(t *testing.T) {
	d := open(t, Options{split: 1, MaxBytes: 4 * blockSize})
	s := d.Namespace("one")
	all := make(map[byte][]byte)
	add := func(name byte, n int) cas.Digest {
		all[name] = blocks(name, n)
		return put(t, s, all[name])
	}
	a, b := add('a', 1), add('b', 1)
	add('c', 1)
	add('d', 1)
	mustHoldOnly(t, s, all, "abcd")
	if _, err := s.FindMissing(t.Context(), []cas.Digest{a}); err != nil { // a use
		t.Fatal(err)
	}
	add('e', 1)
	mustHoldOnly(t, s, all, "acde")
	if _, err := os.Stat(s.filePath(b)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file of an evicted blob: %v", err)
	}
	mustHold(t, s, all['c'])
	add('f', 2)
	mustHoldOnly(t, s, all, "cef")
	if is := d.Stats(); is.Evicted != 3 || is.EvictedBytes != 3*blockSize {
		t.Errorf("it says that it evicted %d blobs of %d bytes", is.Evicted, is.EvictedBytes)
	}
	release := s.Lease([]cas.Digest{cas.SHA256.Sum(all['e'])})
	add('g', 1)
	add('h', 2)
	mustHoldOnly(t, s, all, "egh") // e was the oldest
	release()                      // a use
	add('i', 2)
	mustHoldOnly(t, s, all, "ei") // f's time had come, and g's and h's
	if got := d.Stats(); got.Bytes != 3*blockSize || got.Blobs != 2 || got.Pinned != 0 {
		t.Errorf("%+v", got)
	}
	// Namespaces share the budget.
	put(t, d.Namespace("two"), blocks('x', 4))
	mustHoldOnly(t, s, all, "")
}

func TestBlobsTakeWholeBlocks(t *testing.T) {
	for size, want := range map[int64]int64{1: 4096, 4096: 4096, 4097: 8192, 1<<63 - 1: 1<<63 - 1} {
		if got := blocksOf(size); got != want {
			t.Errorf("blocksOf(%d) = %d, want %d", size, got, want)
		}
	}
}

func TestExecutableCopiesCount(t *testing.T) {
	d := open(t, Options{split: 1, MaxBytes: 4 * blockSize})
	s := d.Namespace("")
	tool, lib := blocks('t', 1), blocks('l', 1)
	digest := put(t, s, tool)
	put(t, s, lib)
	dir, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	link := func(name string) error { return s.Link(t.Context(), digest, int(dir.Fd()), name, true) }
	for _, name := range []string{"first", "second"} {
		if err := link(name); err != nil {
			t.Fatal(err)
		}
	}
	if got := d.Stats().Bytes; got != 3*blockSize {
		t.Errorf("a tool, its copy and a library take %d blocks", got/blockSize)
	}
	mustClose(t, d)
	d = open(t, Options{split: 1, Dir: d.layout.dir, MaxBytes: 4 * blockSize})
	s = d.Namespace("")
	if got := d.Stats().Bytes; got != 3*blockSize {
		t.Errorf("after a restart they take %d blocks", got/blockSize)
	}
	// Leased, they leave no room for a copy; the blob itself can be had.
	release := s.Lease([]cas.Digest{digest, cas.SHA256.Sum(lib)})
	big := put(t, s, blocks('b', 1))
	defer s.Lease([]cas.Digest{big})()
	if err := s.Link(t.Context(), big, int(dir.Fd()), "big", true); !errors.Is(err, cas.ErrNoSpace) {
		t.Errorf("a copy over the budget: got %v, want ErrNoSpace", err)
	}
	mustHold(t, s, blocks('b', 1))
	release()
	put(t, s, blocks('c', 2))
	put(t, s, blocks('d', 3))
	mustLack(t, s, digest)
	path := s.filePath(digest)
	if left, err := filepath.Glob(path + "*"); err != nil || len(left) != 0 {
		t.Errorf("an evicted tool left %v, %v", left, err)
	}
}

func TestSmallerBudgetAfterRestart(t *testing.T) {
	d := open(t, Options{split: 1})
	s := d.Namespace("")
	all := make(map[byte][]byte)
	now := time.Now()
	for i, name := range []byte("abcdef") {
		all[name] = blocks(name, 1)
		path := s.filePath(put(t, s, all[name]))
		// Last used in alphabetical order, whatever the granularity of the clock.
		if err := os.Chtimes(path, now.Add(time.Duration(i-60)*time.Second), now.Add(-time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	mustClose(t, d)
	d = open(t, Options{split: 1, Dir: d.layout.dir, MaxBytes: 2 * blockSize})
	mustHoldOnly(t, d.Namespace(""), all, "ef")
	if got := d.Stats().Bytes; got != 2*blockSize {
		t.Errorf("%d bytes are stored", got)
	}
}

// What will not fit costs nobody his place.
func TestNothingGoesForNothing(t *testing.T) {
	d := open(t, Options{split: 1, MaxBytes: 4 * blockSize})
	s := d.Namespace("")
	all := map[byte][]byte{'a': blocks('a', 1), 'b': blocks('b', 1), 'c': blocks('c', 4), 'd': blocks('d', 3)}
	defer s.Lease([]cas.Digest{put(t, s, all['a'])})()
	put(t, s, all['b'])
	if _, err := cas.PutBytes(t.Context(), s, cas.SHA256, all['c']); !errors.Is(err, cas.ErrNoSpace) {
		t.Errorf("got %v, want ErrNoSpace", err)
	}
	mustHoldOnly(t, s, all, "ab")
	put(t, s, all['d'])
	mustHoldOnly(t, s, all, "ad")
}
