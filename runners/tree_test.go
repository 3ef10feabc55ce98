package runners

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestRemoveTree(t *testing.T) {
	top := t.TempDir()
	outside := filepath.Join(top, "outside")
	dir := filepath.Join(top, "dir")
	for _, d := range []string{outside, dir, filepath.Join(dir, "hearth-deep-1", "full"), filepath.Join(dir, "locked")} {
		must(t, os.MkdirAll(d, 0o755))
	}
	must(t, os.WriteFile(filepath.Join(outside, "file"), nil, 0o644))
	must(t, os.Symlink(outside, filepath.Join(dir, "link")))
	must(t, os.WriteFile(filepath.Join(dir, "locked", "file"), nil, 0))
	must(t, os.Chmod(filepath.Join(dir, "locked"), 0))
	must(t, unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600))
	deepTree(t, dir, 600)
	must(t, RemoveTree(dir))
	if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
	if _, err := os.Lstat(filepath.Join(outside, "file")); err != nil {
		t.Errorf("what a link leads to is gone: %v", err)
	}
	must(t, RemoveTree(dir))
}

// deepTree makes directories that are deeper than one descent.
func deepTree(t *testing.T, dir string, depth int) {
	t.Helper()
	at, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	must(t, err)
	for range depth {
		must(t, unix.Mkdirat(at, "deep", 0o755))
		next, err := unix.Openat(at, "deep", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		must(t, err)
		must(t, unix.Close(at))
		at = next
	}
	must(t, unix.Close(at))
}

func TestRemoveTreeEntersNoMount(t *testing.T) {
	// In a mount namespace of this thread alone, which ends with the test.
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		t.Fatalf("%v: run this test as root", err)
	}
	must(t, unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""))
	dir := filepath.Join(t.TempDir(), "dir")
	mount := filepath.Join(dir, "work", "mount")
	other := t.TempDir()
	must(t, os.MkdirAll(mount, 0o755))
	must(t, os.WriteFile(filepath.Join(other, "file"), nil, 0o644))
	must(t, unix.Mount(other, mount, "", unix.MS_BIND, ""))
	err := RemoveTree(dir)
	if err == nil || !strings.Contains(err.Error(), "mount") {
		t.Errorf("removed: %v", err)
	}
	if _, err := os.Lstat(filepath.Join(other, "file")); err != nil {
		t.Errorf("what was mounted is gone: %v", err)
	}
	must(t, unix.Unmount(mount, 0))
	must(t, RemoveTree(dir))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
