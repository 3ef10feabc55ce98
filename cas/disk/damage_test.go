package disk

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hearth-build/hearth/cas"
)

// vandals are the ways in which a file can go wrong behind the store's back.
func vandals() map[string]func(path string) error {
	return map[string]func(path string) error{
		"truncated": func(path string) error { return os.Truncate(path, 10) },
		"emptied":   func(path string) error { return os.Truncate(path, 0) },
		"extended":  func(path string) error { return edit(path, os.O_APPEND, 0, []byte("x")) },
		"flipped":   func(path string) error { return flip(path, 100) },
		"removed":   os.Remove,
		"replaced by a link": func(path string) error {
			return errors.Join(os.Remove(path), os.Symlink("/etc/passwd", path))
		},
		"replaced by another file": func(path string) error {
			return errors.Join(os.Remove(path), os.WriteFile(path, []byte("another"), 0o444))
		},
		"made writable": func(path string) error {
			return errors.Join(os.Chmod(path, 0o644), flip(path, 100))
		},
	}
}

// flip changes a byte of a file.
func flip(path string, at int64) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return edit(path, 0, at, []byte{data[at] ^ 0xff})
}

// edit changes a file, a clock tick or more after the store wrote it.
func edit(path string, flags int, at int64, p []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|flags, 0)
	if err != nil {
		return err
	}
	if flags&os.O_APPEND != 0 {
		_, err = f.Write(p)
	} else {
		_, err = f.WriteAt(p, at)
	}
	later := time.Now().Add(10 * time.Millisecond)
	return errors.Join(err, f.Close(), os.Chtimes(path, later, later))
}

// users are the ways in which a blob is asked for; each must find it absent.
func users(t *testing.T) map[string]func(s *Store, d cas.Digest) error {
	dir, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	return map[string]func(s *Store, d cas.Digest) error{
		"Get": func(s *Store, d cas.Digest) error { _, err := cas.ReadAll(t.Context(), s, d, d.Size()); return err },
		"Get from an offset": func(s *Store, d cas.Digest) error {
			r, err := s.Get(t.Context(), d, d.Size()-1)
			if err == nil {
				r.Close()
			}
			return err
		},
		"Link":            func(s *Store, d cas.Digest) error { return s.Link(t.Context(), d, int(dir.Fd()), "l", false) },
		"Link executable": func(s *Store, d cas.Digest) error { return s.Link(t.Context(), d, int(dir.Fd()), "x", true) },
	}
}

// REAPI C20: a damaged blob is never served, counts as absent, and heals by the
// next upload.
func TestDamageIsNeverServed(t *testing.T) {
	d := open(t, Options{split: 1})
	asks := users(t)
	n := 0
	for how, vandal := range vandals() {
		for by, ask := range asks {
			for _, size := range []int{1000, 200_000} {
				n++
				t.Run(fmt.Sprintf("%s/%s/%d", how, by, size), func(t *testing.T) {
					s := d.Namespace(fmt.Sprint(n))
					data := random(uint64(n), size)
					digest := put(t, s, data)
					if err := vandal(s.filePath(digest)); err != nil {
						t.Fatal(err)
					}
					if err := ask(s, digest); !errors.Is(err, cas.ErrNotFound) {
						t.Errorf("got %v, want ErrNotFound", err)
					}
					mustLack(t, s, digest)
					put(t, s, data)
					mustHold(t, s, data)
				})
			}
		}
	}
	if got := d.Stats(); got.Unproven != 0 || got.Blobs != n {
		t.Errorf("%+v after %d blobs were healed", got, n)
	}
}

// What was touched but is right stays.
func TestUnfoundedDoubt(t *testing.T) {
	d := open(t, Options{split: 1})
	s := d.Namespace("")
	for _, size := range []int{1000, 200_000} {
		data := random(1, size)
		path := s.filePath(put(t, s, data))
		future := time.Now().Add(time.Hour)
		if err := os.Chtimes(path, future, future); err != nil {
			t.Fatal(err)
		}
		mustHold(t, s, data)
		for by, ask := range users(t) {
			if err := ask(s, cas.SHA256.Sum(data)); err != nil {
				t.Errorf("%s: %v", by, err)
			}
		}
	}
}

func TestDamagedExecutableCopyIsMadeAgain(t *testing.T) {
	d := open(t, Options{split: 1})
	s := d.Namespace("")
	data := random(1, 100_000)
	digest := put(t, s, data)
	path := s.filePath(digest) + execSuffix
	target := t.TempDir()
	dir, err := os.Open(target)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	n := 0
	for how, vandal := range vandals() {
		for range 2 { // before and after
			n++
			name := fmt.Sprint(n)
			if err := s.Link(t.Context(), digest, int(dir.Fd()), name, true); err != nil {
				t.Fatalf("%s: %v", how, err)
			}
			got, err := os.ReadFile(filepath.Join(target, name))
			if err != nil || cas.SHA256.Sum(got) != digest {
				t.Errorf("%s: a wrong executable was linked: %d bytes, %v", how, len(got), err)
			}
			if n%2 == 1 {
				if err := vandal(path); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	mustHold(t, s, data)
	if got := d.Stats().Bytes; got != 2*blocksOf(100_000) {
		t.Errorf("a blob and its copy take %d bytes", got)
	}
}

// crashed closes a store and makes its directory look as if it had stopped
// without, with the last sync point at the given time.
func crashed(t *testing.T, d *Disk, synced time.Time) {
	t.Helper()
	mustClose(t, d)
	data, err := json.Marshal(state{Synced: synced})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(d.layout.state(), data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// flipQuietly damages a file as a power failure does: size and time are right.
func flipQuietly(t *testing.T, path string) {
	t.Helper()
	st, err := os.Stat(path)
	if err == nil {
		err = errors.Join(edit(path, 0, st.Size()/2, []byte{0x5a, 0xa5}), os.Chtimes(path, st.ModTime(), st.ModTime()))
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestUncleanStop(t *testing.T) {
	for _, how := range []string{"FindMissing", "Get", "Link", "Link executable", "Put", "background", "state lost"} {
		t.Run(how, func(t *testing.T) {
			d := open(t, Options{split: 1})
			s := d.Namespace("")
			good, torn := random(1, 100_000), random(2, 100_000)
			put(t, s, good)
			digest := put(t, s, torn)
			path := s.filePath(digest)
			crashed(t, d, time.Now().Add(-time.Minute))
			flipQuietly(t, path)
			if how == "state lost" {
				if err := os.WriteFile(d.layout.state(), []byte(`{"clean":tr`), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			d = openUnverified(t, d.layout.dir)
			s = d.Namespace("")
			if got := d.Stats(); got.Unproven != 2 {
				t.Fatalf("%+v, want both in doubt", got)
			}
			switch how {
			case "Put":
				put(t, s, torn)
				mustHold(t, s, torn)
			case "background":
				d.verifyAll(t.Context())
				if got := d.Stats(); got.Unproven != 0 || got.Blobs != 1 {
					t.Errorf("after the check of all: %+v", got)
				}
				mustLack(t, s, digest)
			case "FindMissing", "state lost":
				mustLack(t, s, digest)
			default:
				if err := users(t)[how](s, digest); !errors.Is(err, cas.ErrNotFound) {
					t.Errorf("got %v, want ErrNotFound", err)
				}
			}
			mustHold(t, s, good)
		})
	}
}

// openUnverified opens a store that checks nothing in the background.
func openUnverified(t *testing.T, dir string) *Disk {
	t.Helper()
	d, err := load(t.Context(), Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	d.start(ctx)
	t.Cleanup(func() { mustClose(t, d) })
	return d
}

func TestOnlyWhatIsYoungIsChecked(t *testing.T) {
	d := open(t, Options{split: 1})
	s := d.Namespace("")
	old := put(t, s, random(1, 100_000))
	put(t, s, random(2, 100_000))
	oldPath := s.filePath(old)
	hourAgo := time.Now().Add(-time.Hour)
	if err := os.Chtimes(oldPath, hourAgo, hourAgo); err != nil {
		t.Fatal(err)
	}
	synced := time.Now().Add(-time.Minute).Round(0)
	crashed(t, d, synced)
	d = openUnverified(t, d.layout.dir)
	if got := d.Stats(); got.Unproven != 1 || got.Blobs != 2 {
		t.Errorf("%+v, want one of two in doubt", got)
	}
	if !d.index.isTrusted(newKey(d.Namespace("").id, old)) {
		t.Error("a blob from before the sync point is in doubt")
	}
	// A sync point would vouch for what nobody checked: there is none, and a
	// stop is not clean, until all is.
	for range 2 {
		mustClose(t, d)
		mustState(t, d, state{Synced: synced})
		d = openUnverified(t, d.layout.dir)
	}
	d.verifyAll(t.Context())
	mustClose(t, d)
	if got, err := readState(d.layout); err != nil || !got.Clean || !got.Synced.After(synced) {
		t.Errorf("state %+v, %v after a clean stop with nothing in doubt", got, err)
	}
	// A clean stop leaves no doubt, however young the files are.
	d = openUnverified(t, d.layout.dir)
	if got := d.Stats(); got.Unproven != 0 || got.Blobs != 2 {
		t.Errorf("%+v", got)
	}
}

// isTrusted reports whether a blob is there and not in doubt.
func (x *index) isTrusted(k key) bool {
	return x.use(k).presence == present
}
