package disk

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hearth-build/hearth/cas"
)

// linkSmall links a small blob into a directory and returns the path of its copy.
func linkSmall(t *testing.T, s *Store, d cas.Digest, dir, name string) string {
	t.Helper()
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := s.Link(context.WithoutCancel(t.Context()), d, int(f.Fd()), name, false); err != nil {
		t.Fatal(err)
	}
	return s.disk.layout.copy(s.dir, d)
}

// A small blob is a file once an action needs it, and counts as one; it is made
// once, made again when it is damaged, and gone after a restart.
func TestCopiesOfSmallBlobs(t *testing.T) {
	d := open(t, Options{})
	s, target := d.Namespace(""), t.TempDir()
	data := random(1, 1000)
	digest := put(t, s, data)
	if got := d.Stats().Bytes; got != charge(1000, true) {
		t.Errorf("a small blob takes %d bytes", got)
	}
	path := linkSmall(t, s, digest, target, "one")
	linkSmall(t, s, digest, target, "two")
	if a, b := inode(t, filepath.Join(target, "one")), inode(t, path); a != b || a != inode(t, filepath.Join(target, "two")) {
		t.Error("two links are two files")
	}
	if got := d.Stats().Bytes; got != charge(1000, true)+blockSize {
		t.Errorf("a small blob and its copy take %d bytes", got)
	}
	n := 0
	for how, vandal := range vandals() {
		n++
		if err := vandal(path); err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprint(n)
		linkSmall(t, s, digest, target, name)
		if got, err := os.ReadFile(filepath.Join(target, name)); err != nil || cas.SHA256.Sum(got) != digest {
			t.Errorf("%s: a wrong file was linked: %d bytes, %v", how, len(got), err)
		}
	}
	mustAddUp(t, d)
	mustClose(t, d)
	d = open(t, Options{Dir: d.layout.dir})
	if got := d.Stats().Bytes; got != charge(1000, true) {
		t.Errorf("after a restart a small blob takes %d bytes", got)
	}
	mustHold(t, d.Namespace(""), data)
	linkSmall(t, d.Namespace(""), digest, target, "again")
}

// Copies that nobody linked for a while are the first to go, before any blob;
// hot ones stay.
func TestColdCopiesGoFirst(t *testing.T) {
	dir, target := t.TempDir(), t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		d := open(t, Options{Dir: dir, MaxBytes: 6 * blockSize, ScrubRate: -1})
		s := d.Namespace("")
		cold, hot := put(t, s, random(1, 1000)), put(t, s, random(2, 1000))
		coldPath := linkSmall(t, s, cold, target, "cold")
		<-time.After(copyHeat + time.Second)
		hotPath := linkSmall(t, s, hot, target, "hot")
		for i := range uint64(12) {
			put(t, s, random(10+i, 1200))
		}
		if _, err := os.Stat(coldPath); !os.IsNotExist(err) {
			t.Errorf("the cold copy: %v", err)
		}
		if _, err := os.Stat(hotPath); err != nil {
			t.Errorf("the hot copy: %v", err)
		}
		mustHold(t, s, random(1, 1000))
		mustHold(t, s, random(2, 1000))
	})
}

// What was used last before a stop is evicted last after it, values and files
// alike, though no reading wrote anything.
func TestOrderSurvivesRestart(t *testing.T) {
	dir := t.TempDir()
	d := open(t, Options{Dir: dir, split: 3000})
	s := d.Namespace("")
	var all [][]byte
	for i := range uint64(20) {
		all = append(all, random(i, 1000+int(i%2)*2500))
		put(t, s, all[i])
	}
	for i := 9; i >= 0; i-- { // a use, in the other order
		mustHold(t, s, all[i])
	}
	mustClose(t, d)
	d = open(t, Options{Dir: dir, split: 3000})
	x := d.index
	at := len(all)
	var order []int
	for _, e := range x.oldestFirst() {
		for i, data := range all {
			if e.key() == newKey(d.namespaceID("i."), cas.SHA256.Sum(data)) {
				order = append(order, i)
			}
		}
	}
	want := []int{10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0}
	if len(order) != at || fmt.Sprint(order) != fmt.Sprint(want) {
		t.Errorf("oldest first %v, want %v", order, want)
	}
	// An order that is torn is none, and nothing worse.
	mustClose(t, d)
	if err := os.Truncate(d.layout.order(), 50); err != nil {
		t.Fatal(err)
	}
	d = open(t, Options{Dir: dir, split: 3000})
	for _, data := range all {
		mustHold(t, d.Namespace(""), data)
	}
}
