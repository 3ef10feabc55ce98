package castest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/hearth-build/hearth/cas"
)

// linkDir returns a directory to link into. The temporary directory of the test
// has to be on the store's file system.
func linkDir(t *testing.T) (dir string, fd int) {
	t.Helper()
	dir = t.TempDir()
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return dir, int(f.Fd())
}

func testLink(t *testing.T, s cas.Store) {
	l, ok := s.(cas.Linker)
	if !ok {
		return
	}
	dir, fd := linkDir(t)
	for _, size := range putSizes() {
		data := random(50, size)
		d := put(t, s, cas.SHA256, data)
		inodes := make(map[bool][]uint64)
		for i, executable := range []bool{false, true, false, true} {
			name := fmt.Sprintf("%d-%d", size, i)
			if err := l.Link(t.Context(), d, fd, name, executable); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			inodes[executable] = append(inodes[executable], checkLink(t, filepath.Join(dir, name), data, executable))
		}
		for executable, of := range inodes {
			if of[0] != of[1] {
				t.Errorf("two links, executable %t, are two files", executable)
			}
		}
		if inodes[false][0] == inodes[true][0] {
			t.Error("a file and an executable share an inode: one has the wrong mode")
		}
		mustHold(t, s, d, data)
	}
}

// checkLink checks content and mode, and returns the inode.
func checkLink(t *testing.T, path string, want []byte, executable bool) uint64 {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s: %d bytes, %v", path, len(got), err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatal(err)
	}
	mode := uint32(0o444)
	if executable {
		mode = 0o555
	}
	if st.Mode != unix.S_IFREG|mode || int(st.Uid) != os.Getuid() {
		t.Errorf("%s: mode %#o of user %d, want a regular file of mode %#o that is the store's own", path, st.Mode, st.Uid, mode)
	}
	return st.Ino
}

func testLinkConcurrently(t *testing.T, s cas.Store) {
	l, ok := s.(cas.Linker)
	if !ok {
		return
	}
	dir, fd := linkDir(t)
	data := random(51, 100_000)
	d := put(t, s, cas.SHA256, data)
	var g errgroup.Group
	for i := range 32 {
		g.Go(func() error { return l.Link(t.Context(), d, fd, fmt.Sprint(i), i%2 == 0) })
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	for i := range 32 {
		checkLink(t, filepath.Join(dir, fmt.Sprint(i)), data, i%2 == 0)
	}
}

func testLinksOutliveTheBlob(t *testing.T, s cas.Store) {
	l, ok := s.(cas.Linker)
	if !ok {
		return
	}
	dir, fd := linkDir(t)
	data := random(52, 1<<20)
	d := put(t, s, cas.SHA256, data)
	for _, executable := range []bool{false, true} {
		if err := l.Link(t.Context(), d, fd, fmt.Sprint(executable), executable); err != nil {
			t.Fatal(err)
		}
	}
	press(t, s, 53)
	mustLack(t, s, d)
	for _, executable := range []bool{false, true} {
		checkLink(t, filepath.Join(dir, fmt.Sprint(executable)), data, executable)
	}
	// The blob comes back as it was, with both kinds of links.
	put(t, s, cas.SHA256, data)
	for _, executable := range []bool{false, true} {
		name := fmt.Sprint("again-", executable)
		if err := l.Link(t.Context(), d, fd, name, executable); err != nil {
			t.Fatal(err)
		}
		checkLink(t, filepath.Join(dir, name), data, executable)
	}
}

func testLinkRefusals(t *testing.T, s cas.Store) {
	l, ok := s.(cas.Linker)
	if !ok {
		return
	}
	dir, fd := linkDir(t)
	absent := cas.SHA256.Sum([]byte("absent"))
	d := put(t, s, cas.SHA256, []byte("present"))
	for _, executable := range []bool{false, true} {
		if err := l.Link(t.Context(), absent, fd, "absent", executable); !errors.Is(err, cas.ErrNotFound) {
			t.Errorf("absent blob: got %v, want ErrNotFound", err)
		}
		// REAPI B13: whoever links the empty blob is told to make a file.
		if err := l.Link(t.Context(), cas.SHA256.Empty(), fd, fmt.Sprint("empty", executable), executable); err != nil && !errors.Is(err, cas.ErrCannotLink) {
			t.Errorf("empty blob: got %v, want a link or ErrCannotLink", err)
		}
		if err := os.WriteFile(filepath.Join(dir, "taken"), []byte("mine"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := l.Link(t.Context(), d, fd, "taken", executable); !errors.Is(err, os.ErrExist) {
			t.Errorf("taken name: got %v, want ErrExist", err)
		}
		if err := l.Link(t.Context(), d, fd, "no/such/dir", executable); err == nil || errors.Is(err, cas.ErrNotFound) {
			t.Errorf("missing directory: got %v; the blob is not what is absent", err)
		}
		// A file system of its own, without hard links to ours.
		proc, err := os.Open("/dev/shm")
		if err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprintf("hearth-castest-%d", os.Getpid())
		err = l.Link(t.Context(), d, int(proc.Fd()), name, executable)
		if closeErr := proc.Close(); closeErr != nil {
			t.Error(closeErr)
		}
		if err == nil {
			t.Cleanup(func() { os.Remove("/dev/shm/" + name) })
		}
		if err != nil && !errors.Is(err, cas.ErrCannotLink) {
			t.Errorf("other file system: got %v, want ErrCannotLink", err)
		}
	}
	got, err := os.ReadFile(filepath.Join(dir, "taken"))
	if err != nil || string(got) != "mine" {
		t.Errorf("a file in the way was changed: %q, %v", got, err)
	}
}
