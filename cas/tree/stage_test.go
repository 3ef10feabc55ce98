package tree_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/tree"
)

// newCopier makes a Copier that must close without complaint.
func newCopier(t testing.TB, s cas.Store) *tree.Copier {
	t.Helper()
	c := tree.NewCopier(s, tree.CopierOptions{})
	t.Cleanup(func() { must(t, c.Close()) })
	return c
}

// nobodys is what an ordinary action gets.
func nobodys() tree.StageOptions {
	return tree.StageOptions{UID: nobody, GID: nobody, AllowLinks: true, AbsoluteSymlinks: true}
}

func statOf(t testing.TB, path string) *syscall.Stat_t {
	t.Helper()
	info, err := os.Lstat(path)
	must(t, err)
	return info.Sys().(*syscall.Stat_t)
}

var example = dir{
	"abs": link("/etc/passwd"), "up": link("../../x"), "dangling": link("nowhere"), "loop": link("loop"),
	"empty": "", "void": dir{}, "run": exe("#!/bin/sh\n"),
	"a": dir{"same": dir{"f": "content"}}, "b": dir{"same": dir{"f": "content"}}, // one Directory at two places
	"-rf *\n": dir{"Foo": "1", "foo": "2"},
}

var exampleLines = []string{
	"-rf *\n drwxr-xr-x", "-rf *\n/Foo -r--r--r-- 1", "-rf *\n/foo -r--r--r-- 2",
	"a drwxr-xr-x", "a/same drwxr-xr-x", "a/same/f -r--r--r-- content",
	"abs -> /etc/passwd",
	"b drwxr-xr-x", "b/same drwxr-xr-x", "b/same/f -r--r--r-- content",
	"dangling -> nowhere", "empty -r--r--r--", "loop -> loop",
	"run -r-xr-xr-x #!/bin/sh",
	"up -> ../../x", "void drwxr-xr-x",
}

// REAPI G4, G7, G10, G13, G16: exactly the input root, by links and by copies,
// under any umask.
func TestStage(t *testing.T) {
	needRoot(t)
	checkLeaks(t)
	defer unix.Umask(unix.Umask(0o077))
	for name, opts := range map[string]tree.StageOptions{
		"links":  nobodys(),
		"copies": {UID: nobody, GID: nobody, AbsoluteSymlinks: true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newLinkStore(t)
			g := load(t, s, s.tree(t, example))
			dir := filepath.Join(t.TempDir(), "root")
			staged, err := newCopier(t, s).Stage(t.Context(), g, dir, opts)
			must(t, err)
			equalLines(t, snapshot(t, dir), exampleLines)
			for _, d := range []string{"", "a/same", "void"} {
				if st := statOf(t, filepath.Join(dir, d)); st.Uid != nobody || st.Gid != nobody || st.Mode&0o7777 != 0o755 {
					t.Errorf("directory %q: owner %d:%d, mode %o", d, st.Uid, st.Gid, st.Mode)
				}
			}
			for _, f := range []string{"run", "a/same/f", "empty"} {
				if st := statOf(t, filepath.Join(dir, f)); st.Uid != 0 {
					t.Errorf("file %q belongs to %d", f, st.Uid)
				}
			}
			linked := statOf(t, filepath.Join(dir, "a/same/f"))
			if want := name == "links"; (linked.Ino == statOf(t, filepath.Join(dir, "b/same/f")).Ino) != want || (s.links > 0) != want {
				t.Errorf("%d links", s.links)
			}
			if empty := statOf(t, filepath.Join(dir, "empty")); empty.Nlink != 1 || empty.Mtim.Sec != 946684800 {
				t.Errorf("the empty file has %d links and time %d", empty.Nlink, empty.Mtim.Sec)
			}
			must(t, staged.Remove())
			if _, err := os.Lstat(dir); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("after Remove: %v", err)
			}
		})
	}
}

// Root may write to its copies, and they carry the one fixed time (REAPI G11).
// A large file may share blocks with the store's, but never its inode (G10).
func TestStageForRoot(t *testing.T) {
	needRoot(t)
	checkLeaks(t)
	s := newLinkStore(t)
	large := strings.Repeat("0123456789abcdef", 20_000)
	g := load(t, s, s.tree(t, dir{"large": large, "large2": exe(large + "2"), "run": exe("x")}))
	root := t.TempDir() // an empty directory is taken as it is
	_, err := newCopier(t, s).Stage(t.Context(), g, root, tree.StageOptions{})
	must(t, err)
	equalLines(t, snapshot(t, root), []string{"large -rw-r--r-- " + large, "large2 -rwxr-xr-x " + large + "2", "run -rwxr-xr-x x"})
	st := statOf(t, filepath.Join(root, "large"))
	if st.Mtim.Sec != 946684800 || st.Mtim.Nsec != 0 || st.Nlink != 1 {
		t.Errorf("time %v, %d links", st.Mtim, st.Nlink)
	}
	if s.links == 0 {
		t.Error("no clone was tried")
	}
	must(t, os.WriteFile(filepath.Join(root, "large"), []byte("changed"), 0))
	again := filepath.Join(t.TempDir(), "root")
	_, err = newCopier(t, s).Stage(t.Context(), g, again, tree.StageOptions{})
	must(t, err)
	if data, err := os.ReadFile(filepath.Join(again, "large")); err != nil || string(data) != large {
		t.Errorf("after the action wrote to its copy: %.20q, %v", data, err)
	}
}

// REAPI G10: an action that is not root cannot change a shared inode.
func TestActionCannotChangeInputs(t *testing.T) {
	needRoot(t)
	s := newLinkStore(t)
	root := filepath.Join(publicDir(t), "root")
	g := load(t, s, s.tree(t, dir{"f": "content", "run": exe("#!/bin/sh\nexit 3\n")}))
	_, err := newCopier(t, s).Stage(t.Context(), g, root, nobodys())
	must(t, err)
	before := statOf(t, filepath.Join(root, "f"))
	script := `
		(echo more >> f) || (true > f) || chmod 777 f || touch f && exit 10
		./run; test $? = 3 || exit 11
		echo new > out && mkdir sub && mv f sub/g && rm run && ln -s x y || exit 12
		cat sub/g`
	cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", script)
	cmd.Dir = root
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil || string(out) != "content" {
		t.Fatalf("%v: %q\n%s", err, out, stderr.String())
	}
	after := statOf(t, filepath.Join(root, "sub/g"))
	if after.Ino != before.Ino || after.Mtim != before.Mtim || after.Mode != before.Mode || after.Nlink < 2 {
		t.Errorf("before %+v, after %+v", before, after)
	}
}

// cannotLink is a store on another file system.
type cannotLink struct{ *linkStore }

func (cannotLink) Link(context.Context, cas.Digest, int, string, bool) error {
	return cas.ErrCannotLink
}

func TestStageCopiesWhereItCannotLink(t *testing.T) {
	needRoot(t)
	s := cannotLink{newLinkStore(t)}
	root := filepath.Join(t.TempDir(), "root")
	_, err := newCopier(t, s).Stage(t.Context(), load(t, s, s.tree(t, example)), root, nobodys())
	must(t, err)
	equalLines(t, snapshot(t, root), exampleLines)
}

// REAPI F45: all blobs that went away since the check are named, and nothing is
// left of the attempt.
func TestStageMissing(t *testing.T) {
	checkLeaks(t)
	s := newStore()
	g := load(t, s, s.tree(t, dir{"a": "a", "b": "b", "sub": dir{"c": "c", "d": "d"}}))
	for _, gone := range []string{"b", "c"} {
		s.lost[cas.SHA256.Sum([]byte(gone))] = true
	}
	at := t.TempDir()
	c := tree.NewCopier(s, tree.CopierOptions{})
	_, err := c.Stage(t.Context(), g, filepath.Join(at, "root"), tree.StageOptions{})
	var missing *cas.MissingError
	if !errors.As(err, &missing) || len(missing.Digests) != 2 {
		t.Fatalf("got %v", err)
	}
	must(t, c.Close())
	equalLines(t, snapshot(t, at), []string{tree.TrashName + " drwx------"})
}

func TestStageRefuses(t *testing.T) {
	s := newStore()
	c := newCopier(t, s)
	// REAPI G16: nothing may be there before.
	full := t.TempDir()
	write(t, filepath.Join(full, "old"), "x", 0o644)
	if _, err := c.Stage(t.Context(), load(t, s, cas.SHA256.Empty()), full, tree.StageOptions{}); err == nil || !strings.Contains(err.Error(), `has "old"`) {
		t.Errorf("a full directory: %v", err)
	}
	// REAPI G14: nor is a link taken for a directory.
	trap := filepath.Join(t.TempDir(), "root")
	must(t, os.Symlink(t.TempDir(), trap))
	if _, err := c.Stage(t.Context(), load(t, s, cas.SHA256.Empty()), trap, tree.StageOptions{}); err == nil {
		t.Error("a symlink was taken as the place")
	}
	// REAPI G13
	g := load(t, s, s.tree(t, dir{"sub": dir{"abs": link("/x")}}))
	_, err := c.Stage(t.Context(), g, filepath.Join(t.TempDir(), "root"), tree.StageOptions{})
	wantInvalid(t, err, "sub/abs", "absolute")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("client gone"))
	place := filepath.Join(t.TempDir(), "root")
	if _, err := c.Stage(ctx, load(t, s, s.tree(t, example)), place, nobodys()); err == nil || !strings.Contains(err.Error(), "client gone") {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := os.Lstat(place); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after a cancelled Stage: %v", err)
	}
}

// A tree as deep as paths can be needs no more open files than a flat one.
func TestStageDeep(t *testing.T) {
	s := newStore()
	d := dir{"end": "x"}
	for range 990 {
		d = dir{"abc": d}
	}
	graph := load(t, s, s.tree(t, d))
	root := filepath.Join(t.TempDir(), "r")
	staged, err := newCopier(t, s).Stage(t.Context(), graph, root, tree.StageOptions{})
	must(t, err)
	data, err := os.ReadFile(root + strings.Repeat("/abc", 990) + "/end")
	if err != nil || string(data) != "x" {
		t.Errorf("%q, %v", data, err)
	}
	must(t, staged.Remove())
}
