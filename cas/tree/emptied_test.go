package tree_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hearth-build/hearth/cas"
)

// REAPI G47: the next action gets the directory of the last one, and can't tell.
func TestEmptiedRootIsAsNew(t *testing.T) {
	needRoot(t)
	checkLeaks(t)
	c, staged, root, trash := stageEmpty(t)
	write(t, filepath.Join(root, "out/f"), "x", 0o600)
	write(t, filepath.Join(root, ".hidden"), "x", 0)
	must(t, os.Chtimes(root, time.Unix(1, 0), time.Unix(2, 0)))
	must(t, os.Chown(root, 4321, 4321))
	must(t, os.Chmod(root, 0o3000))
	before := statOf(t, root)
	must(t, staged.Remove())
	equalLines(t, snapshot(t, root), nil)

	s := newStore()
	began := time.Now().Add(-time.Second) // the kernel's clock ticks more slowly
	stageAt(t, c, load(t, s, cas.SHA256.Empty()), root, nobodys())
	after := statOf(t, root)
	if after.Ino != before.Ino {
		t.Error("the directory is another one")
	}
	if after.Uid != nobody || after.Gid != nobody || after.Mode&0o7777 != 0o755 {
		t.Errorf("owner %d:%d, mode %o", after.Uid, after.Gid, after.Mode&0o7777)
	}
	if at, mt := time.Unix(after.Atim.Unix()), time.Unix(after.Mtim.Unix()); at.Before(began) || mt.Before(began) {
		t.Errorf("read %v and changed %v, before %v", at, mt, began)
	}
	must(t, c.Close())
	equalLines(t, snapshot(t, trash), nil)
}

// What an action can leave on the directory itself, and the next one would notice.
func TestMarkedRootGoes(t *testing.T) {
	needRoot(t)
	const noAccessTime = 0x80
	for what, mark := range map[string]func(root string) error{
		"an attribute": func(root string) error { return unix.Setxattr(root, "user.note", []byte("hello"), 0) },
		"default permissions": func(root string) error {
			acl := []byte("\x02\x00\x00\x00" + "\x01\x00\x07\x00\xff\xff\xff\xff" + "\x04\x00\x07\x00\xff\xff\xff\xff" + "\x20\x00\x07\x00\xff\xff\xff\xff")
			return unix.Setxattr(root, "system.posix_acl_default", acl, 0)
		},
		"a flag":   func(root string) error { setFlags(t, root, noAccessTime); return nil },
		"its size": grow,
	} {
		t.Run(what, func(t *testing.T) {
			checkLeaks(t)
			c, staged, root, trash := stageEmpty(t)
			must(t, mark(root))
			stays := what == "its size" && statOf(t, root).Size <= 4096 // not on ext4
			must(t, staged.Remove())
			if _, err := os.Lstat(root); errors.Is(err, os.ErrNotExist) == stays {
				t.Errorf("after Remove: %v, want it to stay: %t", err, stays)
			}
			must(t, c.Close())
			equalLines(t, snapshot(t, trash), nil)
		})
	}
}

// grow makes a directory longer than one block and leaves it empty.
func grow(root string) error {
	var names []string
	for i := range 100 {
		name := filepath.Join(root, fmt.Sprintf("%03d%s", i, strings.Repeat("x", 200)))
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			return err
		}
		names = append(names, name)
	}
	var failed []error
	for _, name := range names {
		failed = append(failed, os.Remove(name))
	}
	return errors.Join(failed...)
}
