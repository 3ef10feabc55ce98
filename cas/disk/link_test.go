package disk

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hearth-build/hearth/cas"
)

func inode(t *testing.T, path string) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatal(path, err)
	}
	return st.Ino
}

func TestLinksAreTheStoresOwnInodes(t *testing.T) {
	d := open(t, Options{})
	s := d.Namespace("")
	digest := put(t, s, random(1, 50_000))
	target := t.TempDir()
	dir, err := os.Open(target)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	for executable, suffix := range map[bool]string{false: "", true: execSuffix} {
		name := "link" + suffix
		if err := s.Link(t.Context(), digest, int(dir.Fd()), name, executable); err != nil {
			t.Fatal(err)
		}
		path := s.filePath(digest) + suffix
		if inode(t, filepath.Join(target, name)) != inode(t, path) {
			t.Errorf("%s is not the inode of %s", name, path)
		}
	}
	if got := d.Stats(); got.Pinned != 0 || got.Reserved != 0 || got.Bytes != 2*blocksOf(50_000) {
		t.Errorf("%+v", got)
	}
}

func TestLinkErrors(t *testing.T) {
	path := filepath.Join(t.TempDir(), "blob")
	if err := os.WriteFile(path, nil, blobMode); err != nil {
		t.Fatal(err)
	}
	for err, want := range map[error]error{
		unix.EMLINK:     cas.ErrCannotLink, // 65,000 links on ext4
		unix.EXDEV:      cas.ErrCannotLink,
		unix.EPERM:      cas.ErrCannotLink, // no hard links on this file system
		unix.EOPNOTSUPP: cas.ErrCannotLink,
		unix.EEXIST:     os.ErrExist,
		unix.ENOSPC:     cas.ErrNoSpace,
		unix.EDQUOT:     cas.ErrNoSpace,
		unix.EACCES:     os.ErrPermission,
	} {
		if got := linkError(err, path, "name"); !errors.Is(got, want) {
			t.Errorf("%v became %v, want %v", err, got, want)
		}
	}
	if got := linkError(unix.ENOENT, path, "name"); got == nil || errors.Is(got, errDoubtful) {
		t.Errorf("no target directory: %v", got)
	}
	if got := linkError(unix.ENOENT, path+".gone", "name"); !errors.Is(got, errDoubtful) {
		t.Errorf("no blob: %v", got)
	}
}
