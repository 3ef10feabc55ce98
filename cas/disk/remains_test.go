package disk

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// removedFiles counts the files that were in a directory and of which this process keeps
// the blocks.
func removedFiles(t *testing.T, dir string) (n int) {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		target, err := os.Readlink(filepath.Join("/proc/self/fd", fd.Name()))
		if err == nil && strings.HasPrefix(target, dir+"/") && strings.HasSuffix(target, " (deleted)") {
			n++
		}
	}
	return n
}

func TestRemains(t *testing.T) {
	dir := t.TempDir()
	r := &remains{wake: make(chan struct{}, 1)}
	mustRemove := func(name string, size int64) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("blob"), 0o400); err != nil {
			t.Fatal(err)
		}
		if err := r.remove(path, size); err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v, want no file", name, err)
		}
	}
	mustHave := func(want int) {
		t.Helper()
		if n := removedFiles(t, dir); n != want {
			t.Errorf("the blocks of %d files are kept, want %d", n, want)
		}
	}
	mustRemove("one", maxRemains-1)
	mustRemove("two", 1)
	mustHave(2)
	mustRemove("one too many", 1)
	mustHave(0)
	for range maxRemainingFiles {
		mustRemove("another", 1)
	}
	mustHave(maxRemainingFiles)
	mustRemove("another", 1)
	mustHave(0)
	mustRemove("the last", 1)
	r.free()
	mustHave(0)
	if err := r.remove(filepath.Join(dir, "absent"), 1); err != nil {
		t.Errorf("a file that is gone already: %v", err)
	}
	if err := r.remove(dir, 1); err == nil {
		t.Error("a directory was removed")
	}
	r.free()
	mustHave(0)
}

// What was evicted holds no blocks once the store is closed.
func TestCloseFreesWhatWasEvicted(t *testing.T) {
	d := open(t, Options{MaxBytes: 8 << 20})
	for i := range uint64(20) {
		put(t, d.Namespace(""), random(i, 1<<20))
	}
	if d.Stats().Evicted == 0 {
		t.Error("nothing was evicted")
	}
	mustClose(t, d)
	if n := removedFiles(t, d.layout.dir); n != 0 {
		t.Errorf("the blocks of %d files are kept", n)
	}
}
