package tree_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"

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

// newMounter makes a Mounter that must close without complaint, and leave no
// mount.
func newMounter(t testing.TB, s cas.Store, opts tree.MounterOptions) *tree.Mounter {
	t.Helper()
	needRoot(t)
	if opts.Dir == "" {
		opts.Dir = filepath.Join(t.TempDir(), "roots")
	}
	if opts.CopyNodes == 0 {
		opts.CopyNodes = -1
	}
	m, err := tree.NewMounter(s, opts)
	must(t, err)
	t.Cleanup(func() {
		must(t, m.Close())
		if left := mountsBelow(t, opts.Dir); len(left) > 0 {
			t.Errorf("mounts are left: %q", left)
		}
	})
	return m
}

// mountsBelow lists the mount points below a directory.
func mountsBelow(t testing.TB, dir string) []string {
	t.Helper()
	data, err := os.ReadFile("/proc/self/mountinfo")
	must(t, err)
	var points []string
	for line := range strings.Lines(string(data)) {
		if point := strings.Fields(line)[4]; strings.HasPrefix(point, dir) {
			points = append(points, point)
		}
	}
	return points
}

// eachStager runs a test with every kind of Stager.
func eachStager(t *testing.T, f func(t *testing.T, newStager func(cas.Store) tree.Stager)) {
	t.Helper()
	t.Run("copier", func(t *testing.T) {
		f(t, func(s cas.Store) tree.Stager { return newCopier(t, s) })
	})
	t.Run("mounter", func(t *testing.T) {
		f(t, func(s cas.Store) tree.Stager { return newMounter(t, s, tree.MounterOptions{}) })
	})
	t.Run("loop devices", func(t *testing.T) {
		f(t, func(s cas.Store) tree.Stager { return newMounter(t, s, tree.MounterOptions{LoopDevices: true}) })
	})
}

// stageAt stages a graph, and removes what the test does not remove.
func stageAt(t testing.TB, st tree.Stager, g *tree.Graph, dir string, opts tree.StageOptions) tree.Staged {
	t.Helper()
	staged, err := st.Stage(t.Context(), g, dir, opts)
	must(t, err)
	once := &removedOnce{Staged: staged}
	t.Cleanup(func() { must(t, once.Remove()) })
	return once
}

// removedOnce lets a test remove what its clean-up removes else.
type removedOnce struct {
	tree.Staged
	once sync.Once
}

func (s *removedOnce) Remove() (err error) {
	s.once.Do(func() { err = s.Staged.Remove() })
	return err
}

// roots is what an action of root gets.
func roots() tree.StageOptions { return tree.StageOptions{Writable: true, AbsoluteSymlinks: true} }

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

// REAPI G4, G7, G10, G13, G16: exactly the input root, under any umask.
func TestStage(t *testing.T) {
	needRoot(t)
	defer unix.Umask(unix.Umask(0o077))
	eachStager(t, func(t *testing.T, newStager func(cas.Store) tree.Stager) {
		checkLeaks(t)
		s := newLinkStore(t)
		g := load(t, s, s.tree(t, example))
		dir := filepath.Join(t.TempDir(), "root")
		staged := stageAt(t, newStager(s), g, dir, nobodys())
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
		if empty := statOf(t, filepath.Join(dir, "empty")); empty.Nlink != 1 || empty.Mtim.Sec != 946684800 {
			t.Errorf("the empty file has %d links and time %d", empty.Nlink, empty.Mtim.Sec)
		}
		must(t, staged.Remove())
		if left, err := os.ReadDir(dir); len(left) > 0 || err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Errorf("after Remove: %v, %v", left, err)
		}
	})
}

// A Copier links only if it may.
func TestStageLinks(t *testing.T) {
	needRoot(t)
	for _, want := range []bool{true, false} {
		s := newLinkStore(t)
		opts := nobodys()
		opts.AllowLinks = want
		dir := filepath.Join(t.TempDir(), "root")
		stageAt(t, newCopier(t, s), load(t, s, s.tree(t, example)), dir, opts)
		equalLines(t, snapshot(t, dir), exampleLines)
		linked := statOf(t, filepath.Join(dir, "a/same/f"))
		if (linked.Ino == statOf(t, filepath.Join(dir, "b/same/f")).Ino) != want || (s.links > 0) != want {
			t.Errorf("%d links", s.links)
		}
	}
}

// An action that gets writable files, be it root's or nobody's, may change them,
// and nobody sees that but itself. They carry the one fixed time (REAPI G11). A
// large file may share blocks with the store's, but never its inode (REAPI G10).
func TestStageWritable(t *testing.T) {
	needRoot(t)
	eachStager(t, func(t *testing.T, newStager func(cas.Store) tree.Stager) {
		checkLeaks(t)
		s := newLinkStore(t)
		st := newStager(s)
		large := strings.Repeat("0123456789abcdef", 20_000)
		g := load(t, s, s.tree(t, dir{"large": large, "large2": exe(large + "2"), "run": exe("x"), "small": "s"}))
		for _, uid := range []int{0, nobody} {
			opts := tree.StageOptions{UID: uid, GID: uid, Writable: true, AllowLinks: true}
			root := filepath.Join(publicDir(t), "root")
			staged := stageAt(t, st, g, root, opts)
			for _, name := range []string{"large", "large2", "run", "small"} {
				got, mode := statOf(t, filepath.Join(root, name)), uint32(0o644)
				if name == "large2" || name == "run" {
					mode = 0o755
				}
				if int(got.Uid) != uid || got.Mode&0o7777 != mode || got.Mtim.Sec != 946684800 || got.Mtim.Nsec != 0 || got.Nlink != 1 {
					t.Errorf("%s of user %d: %+v", name, uid, got)
				}
			}
			runAs(t, uid, root, "echo more >> large && echo more >> small && chmod 777 run && > large2")
			must(t, staged.Remove())
			stageAt(t, st, g, root+"-again", opts)
			for name, want := range map[string]string{"large": large, "large2": large + "2", "run": "x", "small": "s"} {
				if data, err := os.ReadFile(filepath.Join(root+"-again", name)); err != nil || string(data) != want {
					t.Errorf("%s of user %d after an action changed it: %.20q, %v", name, uid, data, err)
				}
			}
		}
		for name := range s.gets {
			if data, err := cas.ReadAll(t.Context(), s.store, name, name.Size()); err != nil || cas.SHA256.Sum(data) != name {
				t.Errorf("blob %v is not what it was: %v", name, err)
			}
		}
	})
}

// REAPI G11, G10: files get what their node properties ask for, as the action's
// own, and the bits that give rights away are not among them.
func TestStageProperties(t *testing.T) {
	needRoot(t)
	eachStager(t, func(t *testing.T, newStager func(cas.Store) tree.Stager) {
		s := newLinkStore(t)
		content := s.bytes(t, []byte(strings.Repeat("content", 20_000)))
		file := func(name string, executable bool, p *repb.NodeProperties) *repb.FileNode {
			return &repb.FileNode{Name: name, Digest: content.Proto(), IsExecutable: executable, NodeProperties: p}
		}
		then := &timestamppb.Timestamp{Seconds: 1_234_567_890, Nanos: 500_000_000}
		root := s.message(t, &repb.Directory{Files: []*repb.FileNode{
			file("both", false, &repb.NodeProperties{Mtime: then, UnixMode: wrapperspb.UInt32(0o106640)}),
			{Name: "empty", Digest: cas.SHA256.Sum(nil).Proto(), NodeProperties: &repb.NodeProperties{UnixMode: wrapperspb.UInt32(0)}},
			file("mode", true, &repb.NodeProperties{UnixMode: wrapperspb.UInt32(0o200)}),
			file("plain", false, &repb.NodeProperties{Properties: []*repb.NodeProperty{{Name: "mark"}}}),
			file("time", false, &repb.NodeProperties{Mtime: then, Properties: []*repb.NodeProperty{{Name: "mark"}}}),
		}})
		st := newStager(s)
		for _, opts := range []tree.StageOptions{nobodys(), {UID: 5, GID: 5, Writable: true}} {
			dir := filepath.Join(publicDir(t), "root")
			staged := stageAt(t, st, load(t, s, root), dir, opts)
			plain := statOf(t, filepath.Join(dir, "plain"))
			for name, want := range map[string]struct {
				mode uint32
				uid  int
				mtim unix.Timespec
			}{
				"both":  {0o640, opts.UID, unix.Timespec{Sec: 1_234_567_890, Nsec: 500_000_000}},
				"empty": {0, opts.UID, unix.Timespec{Sec: 946_684_800}},
				"mode":  {0o311, opts.UID, unix.Timespec{Sec: 946_684_800}},
				"time":  {plain.Mode & 0o7777, int(plain.Uid), unix.Timespec{Sec: 1_234_567_890, Nsec: 500_000_000}},
			} {
				got := statOf(t, filepath.Join(dir, name))
				if got.Mode&0o7777 != want.mode || int(got.Uid) != want.uid || unix.Timespec(got.Mtim) != want.mtim || got.Nlink != 1 {
					t.Errorf("for user %d: %s is %+v, want %+v", opts.UID, name, got, want)
				}
			}
			runAs(t, opts.UID, dir, "echo more >> both && chmod 600 mode && echo more >> mode")
			must(t, staged.Remove())
		}
		if data, err := cas.ReadAll(t.Context(), s.store, content, content.Size()); err != nil || cas.SHA256.Sum(data) != content {
			t.Errorf("the blob is not what it was: %v", err)
		}
	})
}

// What asks for a time that is none is refused.
func TestStagePropertiesRefused(t *testing.T) {
	s := newStore()
	bad := s.message(t, &repb.Directory{Files: []*repb.FileNode{{
		Name: "f", Digest: cas.SHA256.Sum(nil).Proto(), NodeProperties: &repb.NodeProperties{Mtime: &timestamppb.Timestamp{Nanos: -1}},
	}}})
	_, err := tree.Load(t.Context(), s, bad, tree.Limits{})
	wantInvalid(t, err, `"f"`, "mtime")
}

// runAs runs a shell script as a user without capabilities, unless that is root.
func runAs(t testing.TB, uid int, dir, script string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", script)
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s\n%s", err, out, stderr.String())
	}
	return string(out)
}

// REAPI G10: an action that is not root cannot change an input, and may do what
// it likes with the directories.
func TestActionCannotChangeInputs(t *testing.T) {
	needRoot(t)
	eachStager(t, func(t *testing.T, newStager func(cas.Store) tree.Stager) {
		s := newLinkStore(t)
		root := filepath.Join(publicDir(t), "root")
		g := load(t, s, s.tree(t, dir{"f": "content", "run": exe("#!/bin/sh\nexit 3\n"), "d": dir{"g": "g"}}))
		stageAt(t, newStager(s), g, root, nobodys())
		before := statOf(t, filepath.Join(root, "f"))
		out := runAs(t, nobody, root, `
			(echo more >> f) || (true > f) || chmod 777 f || touch f && exit 10
			./run; test $? = 3 || exit 11
			echo new > out && mkdir sub && mv f sub/g && rm run && ln -s x y || exit 12
			mv d e && mkdir d && echo h > d/h && test "$(ls d e)" = "$(printf 'd:\nh\n\ne:\ng\n')" || exit 13
			cat sub/g`)
		if out != "content" {
			t.Errorf("the file reads as %q", out)
		}
		after := statOf(t, filepath.Join(root, "sub/g"))
		if after.Ino != before.Ino || after.Mtim != before.Mtim || after.Mode != before.Mode || after.Uid != before.Uid {
			t.Errorf("before %+v, after %+v", before, after)
		}
	})
}

// cannotLink is a store on another file system.
type cannotLink struct{ *linkStore }

func (cannotLink) Link(context.Context, cas.Digest, int, string, bool) error {
	return cas.ErrCannotLink
}

func TestStageCopiesWhereItCannotLink(t *testing.T) {
	needRoot(t)
	large := dir{"large": strings.Repeat("0123456789abcdef", 20_000), "empty": ""}
	eachStager(t, func(t *testing.T, newStager func(cas.Store) tree.Stager) {
		for _, d := range []dir{example, large} {
			s := cannotLink{newLinkStore(t)}
			root, plain := filepath.Join(t.TempDir(), "root"), filepath.Join(t.TempDir(), "plain")
			g := load(t, s, s.tree(t, d))
			stageAt(t, newStager(s), g, root, nobodys())
			stageAt(t, newCopier(t, s.store), g, plain, nobodys())
			equalLines(t, snapshot(t, root), snapshot(t, plain))
		}
	})
}

// REAPI F45: all blobs that went away since the check are named, and nothing is
// left of the attempt.
func TestStageMissing(t *testing.T) {
	eachStager(t, func(t *testing.T, newStager func(cas.Store) tree.Stager) {
		checkLeaks(t)
		s := newLinkStore(t)
		large := strings.Repeat("large", 20_000)
		g := load(t, s, s.tree(t, dir{"a": "a", "b": "b", "sub": dir{"c": "c", "d": "d", "e": large + "e", "f": large + "f"}}))
		gone := []string{"b", "c", large + "e"}
		for _, data := range gone {
			s.lost[cas.SHA256.Sum([]byte(data))] = true
		}
		st, at := newStager(s), filepath.Join(t.TempDir(), "at")
		must(t, os.Mkdir(at, 0o755))
		_, err := st.Stage(t.Context(), g, filepath.Join(at, "root"), nobodys())
		var missing *cas.MissingError
		if !errors.As(err, &missing) || len(missing.Digests) != len(gone) {
			t.Fatalf("got %v", err)
		}
		left, err := os.ReadDir(at)
		must(t, err)
		if len(left) > 1 || len(left) == 1 && left[0].Name() != tree.TrashName {
			t.Errorf("left: %v", left)
		}
		// REAPI F46: once they are there, it works.
		clear(s.lost)
		stageAt(t, st, g, filepath.Join(at, "root"), nobodys())
	})
}

func TestStageRefuses(t *testing.T) {
	eachStager(t, func(t *testing.T, newStager func(cas.Store) tree.Stager) {
		s := newStore()
		st := newStager(s)
		some := load(t, s, s.tree(t, dir{"f": "x"}))
		for _, g := range []*tree.Graph{some, load(t, s, cas.SHA256.Empty())} {
			// REAPI G16: nothing may be there before.
			full := t.TempDir()
			write(t, filepath.Join(full, "old"), "x", 0o644)
			if _, err := st.Stage(t.Context(), g, full, tree.StageOptions{}); err == nil || !strings.Contains(err.Error(), `has "old"`) {
				t.Errorf("a full directory: %v", err)
			}
			// REAPI G14: nor is a link taken for a directory.
			trap := filepath.Join(t.TempDir(), "root")
			must(t, os.Symlink(t.TempDir(), trap))
			if _, err := st.Stage(t.Context(), g, trap, tree.StageOptions{}); err == nil {
				t.Error("a symlink was taken as the place")
			}
		}
		// An empty directory is taken as it is.
		stageAt(t, st, some, t.TempDir(), tree.StageOptions{})
		// REAPI G13
		g := load(t, s, s.tree(t, dir{"sub": dir{"abs": link("/x"), "f": "f"}}))
		_, err := st.Stage(t.Context(), g, filepath.Join(t.TempDir(), "root"), tree.StageOptions{})
		wantInvalid(t, err, "sub/abs", "absolute")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errors.New("client gone"))
		place := filepath.Join(t.TempDir(), "root")
		if _, err := st.Stage(ctx, load(t, s, s.tree(t, example)), place, nobodys()); err == nil || !strings.Contains(err.Error(), "client gone") {
			t.Errorf("cancelled: %v", err)
		}
		if _, err := os.Lstat(place); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("after a cancelled Stage: %v", err)
		}
	})
}

// A tree as deep as paths can be needs no more open files than a flat one.
func TestStageDeep(t *testing.T) {
	eachStager(t, func(t *testing.T, newStager func(cas.Store) tree.Stager) {
		s := newStore()
		d := dir{"end": "x"}
		for range 990 {
			d = dir{"abc": d}
		}
		root := filepath.Join(t.TempDir(), "r")
		stageAt(t, newStager(s), load(t, s, s.tree(t, d)), root, tree.StageOptions{})
		data, err := os.ReadFile(root + strings.Repeat("/abc", 990) + "/end")
		if err != nil || string(data) != "x" {
			t.Errorf("%q, %v", data, err)
		}
	})
}

// In a user namespace of its own the action sees files as root's, as everywhere: they are
// those of the namespace's root.
func TestStageForUserNamespace(t *testing.T) {
	needRoot(t)
	const root = 100_000
	s := newLeaseStore(t)
	g := load(t, s, s.tree(t, dir{"f": "f", "l": large("l"), "d": dir{"f": "g"}}))
	for name, stager := range map[string]tree.Stager{"copy": newCopier(t, s), "mount": newMounter(t, s, tree.MounterOptions{CopyNodes: -1})} {
		for _, writable := range []bool{false, true} {
			opts := tree.StageOptions{UID: root + nobody, GID: root + nobody, Root: root, Writable: writable}
			dir := filepath.Join(publicDir(t), "root")
			stageAt(t, stager, g, dir, opts)
			owner := root
			if writable {
				owner = root + nobody
			}
			for path, want := range map[string]int{".": root + nobody, "d": root + nobody, "f": owner, "l": owner, "d/f": owner} {
				if st := statOf(t, filepath.Join(dir, path)); int(st.Uid) != want || int(st.Gid) != want {
					t.Errorf("%s, writable %v: %s is of %d and %d, want %d", name, writable, path, st.Uid, st.Gid, want)
				}
			}
		}
	}
}
