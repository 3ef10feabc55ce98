package disk

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sys/unix"
)

func spareFiles(t *testing.T, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, sparePrefix+"*"))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// A file of values takes the place of one that is removed, and holds nothing of it.
func TestSpares(t *testing.T) {
	dir := t.TempDir()
	w := &waitFS{FS: vfs.Default, log: slog.New(slog.NewTextHandler(io.Discard, nil)), onTrouble: func() {}}
	write := func(name string, data []byte) (inode uint64) {
		t.Helper()
		path := filepath.Join(dir, name)
		f, err := w.Create(path, flush)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(data); err != nil {
			t.Fatal(err)
		}
		if err := f.SyncData(); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s holds %d bytes, %v, want the %d that were written", name, len(got), err, len(data))
		}
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			t.Fatal(err)
		}
		return st.Ino
	}
	remove := func(name string) {
		t.Helper()
		if err := w.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(dir, name)); !os.IsNotExist(err) {
			t.Errorf("%s is still there: %v", name, err)
		}
	}
	first := write("1.blob", random(1, 300<<10))
	remove("1.blob")
	write("2.sst", random(2, 100)) // no file of values
	remove("2.sst")
	if second := write("3.blob", random(3, 100<<10)); second != first {
		t.Error("the file that was removed was not used")
	}
	write("4.blob", random(4, 500<<10)) // there is none for it
	remove("3.blob")
	write("5.blob", random(5, 900<<10))
	for _, name := range []string{"4.blob", "5.blob"} {
		remove(name)
	}
	write("6.blob", random(6, 1))
	for n := range 2 * maxSpares {
		write(fmt.Sprint(10+n, ".blob"), random(7, 10<<10))
	}
	for n := range 2 * maxSpares {
		remove(fmt.Sprint(10+n, ".blob"))
	}
	if got := spareFiles(t, dir); len(got) != maxSpares {
		t.Errorf("%q are kept, want %d", got, maxSpares)
	}
	if err := w.spares.remove(w.FS); err != nil {
		t.Error(err)
	}
	if got := spareFiles(t, dir); len(got) != 0 {
		t.Errorf("%q are left", got)
	}
}

// What a crash left of spares goes with the next start, and a store that is closed has none.
func TestSparesDoNotStay(t *testing.T) {
	options := Options{Dir: t.TempDir(), MaxBytes: 4 << 20}
	values := layout{options.Dir}.values()
	for range 2 {
		d := open(t, options)
		if got := spareFiles(t, values); len(got) != 0 {
			t.Errorf("%q are left by the last run", got)
		}
		for n := range 12_000 {
			put(t, d.Namespace(""), numbered(n))
			if n%4000 == 3999 {
				if err := d.sync(t.Context(), false); err != nil {
					t.Fatal(err)
				}
			}
		}
		mustClose(t, d)
		if got := spareFiles(t, values); len(got) != 0 {
			t.Errorf("a closed store has %q", got)
		}
		if err := os.WriteFile(filepath.Join(values, sparePrefix+"7"), []byte("a crash"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
