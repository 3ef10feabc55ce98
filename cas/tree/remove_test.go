package tree_test

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/tree"
)

// stageEmpty stages an empty root with its trash in a directory of its own.
func stageEmpty(t *testing.T) (c *tree.Copier, staged tree.Staged, root, trash string) {
	t.Helper()
	base := t.TempDir()
	root, trash = filepath.Join(base, "root"), filepath.Join(base, "trash")
	s := newStore()
	c = tree.NewCopier(s, tree.CopierOptions{TrashDir: trash})
	staged, err := c.Stage(t.Context(), load(t, s, cas.SHA256.Empty()), root, tree.StageOptions{UID: os.Geteuid(), GID: os.Getegid()})
	must(t, err)
	return c, staged, root, trash
}

func setFlags(t *testing.T, path string, flags int) {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	defer f.Close()
	// Those that are there stay: ext4 would change how the file is stored else.
	old, err := unix.IoctlGetUint32(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	must(t, err)
	if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, int(old)|flags); err != nil {
		t.Fatalf("this test needs a TMPDIR with file flags (ext4, xfs, btrfs) and CAP_LINUX_IMMUTABLE: %v", err)
	}
}

const (
	immutable  = 0x10
	appendOnly = 0x20
)

// mess makes whatever an action can make.
func mess(t *testing.T, root, outside string) {
	t.Helper()
	write(t, filepath.Join(root, "shut/x/y"), "y", 0)
	must(t, os.Chmod(filepath.Join(root, "shut/x"), 0))
	must(t, os.Chmod(filepath.Join(root, "shut"), 0))
	must(t, os.Symlink(outside, filepath.Join(root, "out")))
	must(t, syscall.Mkfifo(filepath.Join(root, "fifo"), 0o600))
	must(t, syscall.Mknod(filepath.Join(root, "null"), syscall.S_IFCHR|0o600, 1<<8|3))
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(root, "s"), Net: "unix"})
	must(t, err)
	l.SetUnlinkOnClose(false)
	must(t, l.Close())
	must(t, os.WriteFile(filepath.Join(root, "bad\xff\nname"), nil, 0o600))
	write(t, filepath.Join(root, "fixed/dir/f"), "x", 0o644)
	write(t, filepath.Join(root, "fixed/log"), "x", 0o644)
	setFlags(t, filepath.Join(root, "fixed/log"), appendOnly)
	setFlags(t, filepath.Join(root, "fixed/dir/f"), immutable)
	setFlags(t, filepath.Join(root, "fixed/dir"), appendOnly)
	setFlags(t, filepath.Join(root, "fixed"), immutable)
	setFlags(t, root, immutable)
}

// REAPI G47: nothing that an action makes survives, and nothing outside is hurt.
func TestRemove(t *testing.T) {
	needRoot(t)
	checkLeaks(t)
	c, staged, root, trash := stageEmpty(t)
	outside := t.TempDir()
	write(t, filepath.Join(outside, "keep"), "me", 0o644)
	mess(t, root, outside)
	must(t, staged.Remove())
	if _, err := os.Lstat(root); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after Remove: %v", err)
	}
	must(t, c.Close())
	equalLines(t, snapshot(t, trash), nil)
	equalLines(t, snapshot(t, outside), []string{"keep -rw-r--r-- me"})
}

// deepen makes a chain of directories that no path can name.
func deepen(t *testing.T, root string, levels int) {
	t.Helper()
	fd, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY, 0)
	must(t, err)
	for range levels {
		must(t, unix.Mkdirat(fd, "directory", 0o755))
		next, err := unix.Openat(fd, "directory", unix.O_PATH|unix.O_DIRECTORY, 0)
		must(t, err)
		unix.Close(fd)
		fd = next
	}
	unix.Close(fd)
}

func TestRemoveDeep(t *testing.T) {
	checkLeaks(t)
	c, staged, root, trash := stageEmpty(t)
	deepen(t, root, 1000)
	must(t, staged.Remove())
	must(t, c.Close())
	equalLines(t, snapshot(t, trash), nil)
}

// What took the place of the input root is removed, not what it leads to.
func TestRemoveReplacedRoot(t *testing.T) {
	c, staged, root, trash := stageEmpty(t)
	outside := t.TempDir()
	write(t, filepath.Join(outside, "keep"), "me", 0o644)
	must(t, os.Remove(root))
	must(t, os.Symlink(outside, root))
	must(t, staged.Remove())
	must(t, staged.Remove()) // and one that is gone is no error
	must(t, c.Close())
	equalLines(t, snapshot(t, trash), nil)
	equalLines(t, snapshot(t, outside), []string{"keep -rw-r--r-- me"})
}

// A trash directory that others can reach is a trap.
func TestRemoveRefusesForeignTrash(t *testing.T) {
	c, staged, root, trash := stageEmpty(t)
	write(t, filepath.Join(root, "left"), "", 0o644)
	must(t, os.Symlink(t.TempDir(), trash))
	if err := staged.Remove(); err == nil {
		t.Error("a symlink was taken as the trash directory")
	}
	must(t, os.Remove(trash))
	must(t, os.Mkdir(trash, 0o755))
	if err := staged.Remove(); err == nil || !strings.Contains(err.Error(), "open to others") {
		t.Errorf("got %v", err)
	}
	equalLines(t, snapshot(t, root), []string{"left -rw-r--r--"})
	must(t, os.Remove(trash))
	must(t, staged.Remove())
	must(t, c.Close())
}

// With the queue full, and after Close, Remove deletes by itself.
func TestRemoveNeverPilesUp(t *testing.T) {
	checkLeaks(t)
	s := newStore()
	g := load(t, s, s.tree(t, dir{"a": dir{"b": "c"}}))
	base := t.TempDir()
	c := tree.NewCopier(s, tree.CopierOptions{MaxTrash: 1})
	var all []tree.Staged
	want := []string{tree.TrashName + " drwx------"}
	for _, name := range []string{"1", "2", "3", "4", "5", "6", "7", "8"} {
		want = append(want, name+" drwxr-xr-x") // empty, for another
		staged, err := c.Stage(t.Context(), g, filepath.Join(base, name), tree.StageOptions{})
		must(t, err)
		all = append(all, staged)
	}
	for i, staged := range all {
		if i == 6 {
			must(t, c.Close())
		}
		must(t, staged.Remove())
	}
	equalLines(t, snapshot(t, base), want)
	must(t, c.Close())
}

func TestSweepTrash(t *testing.T) {
	checkLeaks(t)
	trash := filepath.Join(t.TempDir(), "trash")
	must(t, tree.SweepTrash(trash)) // none yet
	write(t, filepath.Join(trash, "a/b/c"), "x", 0o600)
	write(t, filepath.Join(trash, "a.1"), "x", 0o600) // the name a deep part of "a" would get
	deepen(t, filepath.Join(trash, "a"), 300)
	must(t, os.Symlink("/", filepath.Join(trash, "l")))
	must(t, tree.SweepTrash(trash))
	equalLines(t, snapshot(t, trash), nil)
}

// A mount in the tree is reported, and nothing behind it is touched.
func TestRemoveStopsAtMounts(t *testing.T) {
	if !inChild(t, &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}) {
		return
	}
	must(t, unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	for _, kind := range []string{"other file system", "same file system"} {
		c, staged, root, trash := stageEmpty(t)
		outside := t.TempDir()
		write(t, filepath.Join(outside, "keep"), "me", 0o644)
		at := filepath.Join(root, "a/mnt")
		must(t, os.MkdirAll(at, 0o755))
		write(t, filepath.Join(root, "a/other"), "x", 0o644)
		if kind == "same file system" {
			must(t, unix.Mount(outside, at, "", unix.MS_BIND, ""))
		} else {
			must(t, unix.Mount("tmpfs", at, "tmpfs", 0, ""))
			write(t, filepath.Join(at, "keep"), "me", 0o644)
		}
		must(t, staged.Remove())
		if err := c.Close(); err == nil || !strings.Contains(err.Error(), "mount point") {
			t.Errorf("%s: Close says %v", kind, err)
		}
		left := snapshot(t, trash)
		if len(left) != 3 || !strings.HasSuffix(left[2], "/mnt/keep -rw-r--r-- me") {
			t.Errorf("%s: left: %q", kind, left)
		}
		must(t, unix.Unmount(filepath.Join(trash, strings.Fields(left[1])[0]), 0))
		must(t, tree.SweepTrash(trash))
		equalLines(t, snapshot(t, trash), nil)
	}
}

// Where nothing is left to the background, Remove itself says what it could not delete.
func TestRemoveTells(t *testing.T) {
	if !inChild(t, &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}) {
		return
	}
	must(t, unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	c, staged, root, trash := stageEmpty(t)
	must(t, c.Close())
	must(t, os.MkdirAll(filepath.Join(root, "a/mnt"), 0o755))
	must(t, unix.Mount("tmpfs", filepath.Join(root, "a/mnt"), "tmpfs", 0, ""))
	if err := staged.Remove(); err == nil || !strings.Contains(err.Error(), "mount point") {
		t.Errorf("got %v", err)
	}
	left := snapshot(t, trash)
	if len(left) != 2 || !strings.Contains(left[1], "/mnt ") {
		t.Fatalf("left: %q", left)
	}
	must(t, unix.Unmount(filepath.Join(trash, strings.Fields(left[1])[0]), 0))
	must(t, tree.SweepTrash(trash))
}

// Two who delete the same trash do not disturb each other.
func TestSweepTrashTwice(t *testing.T) {
	checkLeaks(t)
	trash := t.TempDir()
	for i := range 50 {
		write(t, filepath.Join(trash, strings.Repeat("d", i+1), "a/b/c/f"), "x", 0o600)
	}
	deepen(t, filepath.Join(trash, "d"), 120)
	var sweeps errgroup.Group
	for range 3 {
		sweeps.Go(func() error { return tree.SweepTrash(trash) })
	}
	must(t, sweeps.Wait())
	equalLines(t, snapshot(t, trash), nil)
}
