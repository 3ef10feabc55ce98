package tree_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/tree"
)

// leaseStore is a store that counts leases, and fetches.
type leaseStore struct {
	*linkStore
	mu         sync.Mutex
	leases     map[cas.Digest]int
	prefetched []cas.Digest
}

var (
	_ cas.Leaser     = (*leaseStore)(nil)
	_ cas.Prefetcher = (*leaseStore)(nil)
)

func newLeaseStore(t testing.TB) *leaseStore {
	return &leaseStore{linkStore: newLinkStore(t), leases: map[cas.Digest]int{}}
}

func (s *leaseStore) Lease(ds []cas.Digest) (release func()) {
	ds = slices.Clone(ds)
	add := func(n int) {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, d := range ds {
			if s.leases[d] += n; s.leases[d] == 0 {
				delete(s.leases, d)
			}
		}
	}
	add(1)
	return func() { add(-1) }
}

func (s *leaseStore) Prefetch(_ context.Context, ds []cas.Digest) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.prefetched = append(s.prefetched, ds...)
	return nil
}

func (s *leaseStore) leased() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.leases)
}

// lose makes the store lose all that it can.
func (s *leaseStore) lose() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for d := range s.gets {
		s.lost[d] = s.leases[d] == 0
	}
}

// large is content that does not go into a pack.
func large(seed string) string { return strings.Repeat(seed+"0123456789abcdef", 40_000/(16+len(seed))) }

// What was there before is neither read nor fetched again, and what an image
// uses outlives the store's own copy.
func TestMounterReadsOnce(t *testing.T) {
	checkLeaks(t)
	s := newLeaseStore(t)
	m := newMounter(t, s, tree.MounterOptions{})
	d := dir{"small": "small", "sub": dir{"large": large("a"), "same": "small"}, "run": exe(large("b"))}
	first := filepath.Join(t.TempDir(), "root")
	stageAt(t, m, load(t, s, s.tree(t, d)), first, nobodys())
	if len(s.prefetched) != 3 || s.links != 2 || s.leased() != 2 {
		t.Errorf("%d prefetched, %d links, %d leases", len(s.prefetched), s.links, s.leased())
	}
	reads := s.gets[cas.SHA256.Sum([]byte("small"))]
	d["new"] = "new"
	second := filepath.Join(t.TempDir(), "root")
	stageAt(t, m, load(t, s, s.tree(t, d)), second, nobodys())
	if len(s.prefetched) != 4 || s.links != 2 || s.gets[cas.SHA256.Sum([]byte("small"))] != reads {
		t.Errorf("the second time: %d prefetched, %d links, %v read", len(s.prefetched), s.links, s.gets)
	}
	s.lose()
	lines := []string{
		"run -r-xr-xr-x " + large("b"), "small -r--r--r-- small",
		"sub drwxr-xr-x", "sub/large -r--r--r-- " + large("a"), "sub/same -r--r--r-- small",
	}
	equalLines(t, snapshot(t, first), lines)
	equalLines(t, snapshot(t, second), append([]string{"new -r--r--r-- new"}, lines...))
}

// Two actions with the same input root do not see what the other writes.
func TestMounterKeepsActionsApart(t *testing.T) {
	checkLeaks(t)
	s := newLeaseStore(t)
	m := newMounter(t, s, tree.MounterOptions{})
	g := load(t, s, s.tree(t, dir{"f": "f", "d": dir{"g": large("g")}}))
	a, b := filepath.Join(t.TempDir(), "root"), filepath.Join(t.TempDir(), "root")
	staged := stageAt(t, m, g, a, roots())
	stageAt(t, m, g, b, roots())
	write(t, filepath.Join(a, "f"), "changed", 0o600)
	must(t, os.RemoveAll(filepath.Join(a, "d")))
	equalLines(t, snapshot(t, a), []string{"f -rw------- changed"})
	want := []string{"d drwxr-xr-x", "d/g -rw-r--r-- " + large("g"), "f -rw-r--r-- f"}
	equalLines(t, snapshot(t, b), want)
	must(t, staged.Remove())
	stageAt(t, m, g, a, roots())
	equalLines(t, snapshot(t, a), want)
}

// All programs see one device, and the same numbers whichever process made the
// image.
func TestMounterIsDeterministic(t *testing.T) {
	listing := func() (lines []string) {
		s := newLeaseStore(t)
		m := newMounter(t, s, tree.MounterOptions{})
		stageAt(t, m, load(t, s, s.tree(t, dir{"other": large("x")})), filepath.Join(t.TempDir(), "other"), nobodys())
		root := filepath.Join(t.TempDir(), "root")
		stageAt(t, m, load(t, s, s.tree(t, dir{"b": large("b"), "a": dir{"f": "f", "g": link("f")}, "run": exe("x")})), root, nobodys())
		must(t, filepath.Walk(root, func(p string, info os.FileInfo, err error) error {
			st := info.Sys().(*syscall.Stat_t)
			if st.Dev != statOf(t, root).Dev {
				t.Errorf("%s is on another device", p)
			}
			if p != root {
				lines = append(lines, fmt.Sprint(info.Name(), " ", st.Ino, " ", info.ModTime().UnixNano()))
			}
			return err
		}))
		return lines
	}
	equalLines(t, listing(), listing())
}

// Images, packs and links that nobody uses are bounded, and all go with Close.
func TestMounterLimits(t *testing.T) {
	checkLeaks(t)
	s := newLeaseStore(t)
	base := filepath.Join(t.TempDir(), "roots")
	m := newMounter(t, s, tree.MounterOptions{Dir: base, KeepImages: 2, LinkBytes: 100_000})
	use := func(d dir) {
		t.Helper()
		root := filepath.Join(t.TempDir(), "root")
		staged := stageAt(t, m, load(t, s, s.tree(t, d)), root, nobodys())
		if len(snapshot(t, root)) != len(d) {
			t.Error("files are missing")
		}
		must(t, staged.Remove())
	}
	for i := range 5 {
		use(dir{"f": fmt.Sprint(i)})
	}
	eventually(t, "no more than two images", func() bool { return len(mountsBelow(t, base)) == 2 })
	// Each of 40,000 bytes: only one image with two of them fits.
	for i := range 4 {
		use(dir{"f": large(fmt.Sprint("l", i)), "g": large(fmt.Sprint("l", i+1))})
	}
	eventually(t, "the end of old links", func() bool {
		links, err := os.ReadDir(filepath.Join(base, "blobs"))
		return err == nil && len(links) == 2 && s.leased() == 2
	})
	must(t, m.Forget())
	eventually(t, "the end of all images", func() bool { return len(mountsBelow(t, base)) == 0 && s.leased() == 0 })
	use(dir{"f": large("l1"), "g": "1"})
}

// Packs that are full go, the oldest first, but not while they are in use.
func TestMounterPacks(t *testing.T) {
	checkLeaks(t)
	s := newLeaseStore(t)
	base := filepath.Join(t.TempDir(), "roots")
	m := newMounter(t, s, tree.MounterOptions{Dir: base, PackBytes: 100 << 20})
	many := func(seed string) dir {
		d := dir{}
		for i := range 1100 {
			d[fmt.Sprint(i)] = strings.Repeat(fmt.Sprintf("%s%07d", seed, i), 32<<10/8)
		}
		return d
	}
	packs := func() int {
		entries, err := os.ReadDir(filepath.Join(base, "packs"))
		must(t, err)
		return len(entries)
	}
	used := filepath.Join(t.TempDir(), "used")
	staged := stageAt(t, m, load(t, s, s.tree(t, many("a"))), used, nobodys())
	for _, seed := range []string{"b", "c", "d", "e", "f"} {
		root := filepath.Join(t.TempDir(), "root")
		must(t, stageAt(t, m, load(t, s, s.tree(t, many(seed))), root, nobodys()).Remove())
	}
	eventually(t, "no more than three packs", func() bool { return packs() <= 3 })
	s.lose()
	if data, err := os.ReadFile(filepath.Join(used, "7")); err != nil || !strings.HasPrefix(string(data), "a0000007a0000007") || len(data) != 32<<10 {
		t.Errorf("a file of a pack in use: %.20q, %v", data, err)
	}
	must(t, staged.Remove())
}

// Many actions at once, that share some blobs.
func TestMounterConcurrently(t *testing.T) {
	checkLeaks(t)
	s := newLeaseStore(t)
	m := newMounter(t, s, tree.MounterOptions{KeepImages: 2})
	var graphs []*tree.Graph
	for i := range 6 {
		d := dir{"own": fmt.Sprint("own ", i), "large": large(fmt.Sprint(i % 3))}
		for j := range 40 {
			d[fmt.Sprint("shared", j)] = fmt.Sprint("shared ", j*(1+i%2))
		}
		graphs = append(graphs, load(t, s, s.tree(t, d)))
	}
	at := t.TempDir()
	var group errgroup.Group
	for i := range 48 {
		group.Go(func() error {
			root := filepath.Join(at, fmt.Sprint(i))
			staged, err := m.Stage(context.WithoutCancel(t.Context()), graphs[i%6], root, nobodys())
			if err != nil {
				return err
			}
			own, err := os.ReadFile(filepath.Join(root, "own"))
			if err == nil && string(own) != fmt.Sprint("own ", i%6) {
				err = fmt.Errorf("%d reads %q", i, own)
			}
			shared, serr := os.ReadFile(filepath.Join(root, "shared39"))
			if serr == nil && string(shared) != fmt.Sprint("shared ", 39*(1+i%2)) {
				serr = fmt.Errorf("%d reads %q", i, shared)
			}
			return errors.Join(err, serr, os.WriteFile(filepath.Join(root, "out"), own, 0o600), staged.Remove())
		})
	}
	must(t, group.Wait())
}

// One whose client goes away, or whose blob is missing, does not spoil it for
// others that wait for the same.
func TestMounterOthersFail(t *testing.T) {
	checkLeaks(t)
	s := newLeaseStore(t)
	m := newMounter(t, s, tree.MounterOptions{})
	missing := large("missing")
	good, bad := load(t, s, s.tree(t, dir{"f": "f", "l": large("l")})), load(t, s, s.tree(t, dir{"f": "f", "l": large("l"), "m": missing}))
	s.lost[cas.SHA256.Sum([]byte(missing))] = true
	at := t.TempDir()
	var group errgroup.Group
	for i := range 24 {
		group.Go(func() error {
			ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
			defer cancel()
			g := good
			switch i % 3 {
			case 1:
				g = bad
			case 2:
				go cancel() // some time, or too late
			}
			staged, err := m.Stage(ctx, g, filepath.Join(at, fmt.Sprint(i)), nobodys())
			switch {
			case err == nil && g == good:
				return staged.Remove()
			case i%3 == 1 && errors.Is(err, cas.ErrNotFound), i%3 == 2 && errors.Is(err, context.Canceled):
				return nil
			}
			return fmt.Errorf("%d: %w", i, err)
		})
	}
	must(t, group.Wait())
	if n := s.leased(); n > 2 {
		t.Errorf("%d leases are left", n)
	}
}

// What still uses an input root keeps it, and does not hold up the next.
func TestMounterRemoveInUse(t *testing.T) {
	s := newLeaseStore(t)
	m := newMounter(t, s, tree.MounterOptions{})
	g := load(t, s, s.tree(t, dir{"f": "f"}))
	root := filepath.Join(t.TempDir(), "root")
	staged := stageAt(t, m, g, root, nobodys())
	f, err := os.Open(filepath.Join(root, "f"))
	must(t, err)
	defer f.Close()
	must(t, staged.Remove())
	stageAt(t, m, g, root, nobodys())
	write(t, filepath.Join(root, "new"), "new", 0o600)
	buf := make([]byte, 10)
	if n, err := f.Read(buf); err != nil || string(buf[:n]) != "f" {
		t.Errorf("the old file reads %q, %v", buf[:n], err)
	}
}

// A small input root is made by hand, and looks the same to every program.
func TestMounterCopiesSmallRoots(t *testing.T) {
	needRoot(t)
	defer unix.Umask(unix.Umask(0o077))
	s := newLeaseStore(t)
	base := filepath.Join(t.TempDir(), "roots")
	by := map[bool]*tree.Mounter{true: newMounter(t, s, tree.MounterOptions{Dir: base, CopyNodes: 32}), false: newMounter(t, s, tree.MounterOptions{})}
	for _, opts := range []tree.StageOptions{nobodys(), roots()} {
		g := load(t, s, s.tree(t, example))
		seen := map[bool][]string{}
		for byHand, m := range by {
			root := filepath.Join(t.TempDir(), "root")
			stageAt(t, m, g, root, opts)
			must(t, filepath.Walk(root, func(p string, info os.FileInfo, err error) error {
				if err != nil {
					return err
				}
				st := info.Sys().(*syscall.Stat_t)
				line := fmt.Sprint(info.Name(), info.Mode(), st.Uid, st.Gid)
				if info.Mode().IsRegular() {
					line += fmt.Sprint(info.Size(), st.Nlink, st.Mtim)
				}
				seen[byHand] = append(seen[byHand], line)
				return nil
			}))
		}
		seen[true][0], seen[false][0] = "", ""
		equalLines(t, seen[true], seen[false])
	}
	if left := mountsBelow(t, base); len(left) > 0 {
		t.Errorf("mounts: %q", left)
	}
	for name, d := range map[string]dir{"large": {"f": large("f") + strings.Repeat("x", 256<<10)}, "many": leaf("many", 32)} {
		before := len(mountsBelow(t, base))
		stageAt(t, by[true], load(t, s, s.tree(t, d)), filepath.Join(t.TempDir(), "root"), nobodys())
		if len(mountsBelow(t, base)) != before+1 {
			t.Errorf("%s: it was not mounted", name)
		}
	}
}

// Directories may have any name, of a length that the kernel takes.
func TestMounterDirs(t *testing.T) {
	needRoot(t)
	s := newLeaseStore(t)
	m := newMounter(t, s, tree.MounterOptions{Dir: filepath.Join(t.TempDir(), `a:b,c d\e=f#"g`, "roots")})
	root := filepath.Join(t.TempDir(), `in:put,r\oot`)
	stageAt(t, m, load(t, s, s.tree(t, dir{"f": "f", "l": large("l")})), root, nobodys())
	equalLines(t, snapshot(t, root), []string{"f -r--r--r-- f", "l -r--r--r-- " + large("l")})
	long := filepath.Join(t.TempDir(), strings.Repeat("n", 200))
	if _, err := tree.NewMounter(s, tree.MounterOptions{Dir: long}); err == nil || !strings.Contains(err.Error(), "too long") {
		t.Errorf("a long name: %v", err)
	}
}

// What an action did to its inputs shows.
func TestModified(t *testing.T) {
	checkLeaks(t)
	s := newLeaseStore(t)
	m := newMounter(t, s, tree.MounterOptions{})
	g := load(t, s, s.tree(t, dir{
		"same": "1", "written": "2", "removed": "3", "mode": "4", "kind": "5", "out": "6", "outdir": dir{"f": "7"},
		"d": dir{"e": dir{"f": "8", "g": "9"}}, "moved": dir{"f": "10"}, "anew": dir{"f": "11"}, "l": link("same"), "untouched": dir{"f": "12"},
	}))
	root := filepath.Join(publicDir(t), "root")
	staged := stageAt(t, m, g, root, roots())
	out := parse(t, &repb.Command{OutputPaths: []string{"out", "outdir", "d/e/new", "d/made/out"}})
	must(t, tree.Prepare(root, out, roots()))
	if found, err := staged.(*removedOnce).Staged.(tree.Inspector).Modified(out); err != nil || len(found) > 0 {
		t.Errorf("before: %q, %v", found, err)
	}
	runAs(t, 0, root, `
		echo x >> written && rm removed && chmod 600 mode && rm kind && mkdir kind && echo x > out && rm -r outdir && mkdir outdir
		echo x > outdir/f && echo x >> d/e/f && echo x > d/e/new && mv moved elsewhere && rm -r anew && mkdir anew
		ln -sfn other l && cat same untouched/f && echo scratch > scratch`)
	found, err := staged.(*removedOnce).Staged.(tree.Inspector).Modified(out)
	must(t, err)
	equalLines(t, found, []string{"anew", "d/e/f", "kind", "l", "mode", "moved", "removed", "written"})
}

// Outputs are found in a mount as they are in a plain directory.
func TestCaptureMounted(t *testing.T) {
	t.Setenv(envMounted, "1")
	for name, test := range map[string]func(*testing.T){
		"paths": TestCapturePaths, "legacy": TestCaptureLegacy, "refuses": TestCaptureRefuses, "limits": TestCaptureLimits,
		"tree": TestCaptureTree, "deterministic": TestCaptureIsDeterministic, "everything": TestCaptureEverything,
		"properties": TestCaptureProperties, "once": TestCaptureStoresOnce, "changes": TestCaptureWhileFilesChange,
		"store fails": TestCaptureStoreFails, "functions": TestCaptureFunctions,
	} {
		t.Run(name, test)
	}
}

// REAPI G30: an input at the place of an output is one, changed or not, as is
// what is found in a declared directory of inputs.
func TestCaptureInputs(t *testing.T) {
	eachStager(t, func(t *testing.T, newStager func(cas.Store) tree.Stager) {
		s := newLinkStore(t)
		root := filepath.Join(publicDir(t), "root")
		g := load(t, s, s.tree(t, dir{"same": large("s"), "changed": "old", "d": dir{"kept": "1", "gone": "2", "sub": dir{"run": exe("3")}}}))
		stageAt(t, newStager(s), g, root, roots())
		runAs(t, 0, root, "echo new > changed && rm d/gone && echo 4 > d/made")
		r := capture(t, s, root, &repb.Command{OutputPaths: []string{"same", "changed", "d"}})
		equalLines(t, summary(r), []string{`dir "d"`, `file "changed" 4 false`, `file "same" 39984 false`})
		records := checkTree(t, s.store, r.OutputDirectories[0])
		m := &repb.Directory{}
		must(t, proto.Unmarshal(records[0], m))
		if len(m.Files) != 2 || m.Files[0].Name != "kept" || m.Files[1].Name != "made" || len(m.Directories) != 1 {
			t.Errorf("%v", m)
		}
	})
}

// Whatever an action leaves is gone after Remove.
func TestMounterRemovesMess(t *testing.T) {
	checkLeaks(t)
	s := newLeaseStore(t)
	base := filepath.Join(t.TempDir(), "roots")
	m := newMounter(t, s, tree.MounterOptions{Dir: base})
	root, outside := filepath.Join(t.TempDir(), "root"), t.TempDir()
	write(t, filepath.Join(outside, "keep"), "x", 0o644)
	staged := stageAt(t, m, load(t, s, s.tree(t, example)), root, roots())
	mess(t, root, outside)
	deepen(t, filepath.Join(root, "a"), 1200)
	must(t, staged.Remove())
	eventually(t, "the end of all changes", func() bool {
		left, err := os.ReadDir(filepath.Join(base, "upper"))
		return err == nil && len(left) == 0
	})
	equalLines(t, snapshot(t, outside), []string{"keep -rw-r--r-- x"})
}

// After kill -9 of a hearth the next one removes its mounts.
func TestMounterAfterCrash(t *testing.T) {
	base := filepath.Join(publicDir(t), "roots")
	if dir := os.Getenv("TREE_TEST_MOUNTER"); dir != "" {
		s := newLeaseStore(t)
		m, err := tree.NewMounter(s, tree.MounterOptions{Dir: filepath.Join(dir, "roots"), CopyNodes: -1})
		must(t, err)
		g := load(t, s, s.tree(t, map1("f", "f")))
		for _, name := range []string{"root", "root2"} {
			_, err = m.Stage(t.Context(), g, filepath.Join(dir, name), nobodys())
			must(t, err)
		}
		fmt.Println("ready")
		select {}
	}
	needRoot(t)
	at := filepath.Dir(base)
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), "TREE_TEST_MOUNTER="+at, "TMPDIR="+at) // it cannot clean up
	stdout, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	line := make([]byte, 6)
	_, err = stdout.Read(line)
	must(t, err)
	must(t, cmd.Process.Kill())
	_ = cmd.Wait() // of a signal
	if string(line) != "ready\n" || len(mountsBelow(t, at)) != 3 {
		t.Errorf("the child said %q; mounts: %q", line, mountsBelow(t, at))
	}
	s := newLeaseStore(t)
	m := newMounter(t, s, tree.MounterOptions{Dir: base})
	if left := mountsBelow(t, base); len(left) > 0 {
		t.Errorf("mounts of images are left: %q", left)
	}
	// Those in the directories of runners go with these.
	if n, err := tree.UnmountBelow(filepath.Join(at, "root")); n != 0 || err != nil {
		t.Errorf("below the mount itself: %d mounts, %v", n, err)
	}
	if n, err := tree.UnmountBelow(at); n != 2 || err != nil {
		t.Errorf("%d mounts, %v", n, err)
	}
	if left := mountsBelow(t, at); len(left) > 0 {
		t.Errorf("mounts are left: %q", left)
	}
	stageAt(t, m, load(t, s, s.tree(t, map1("f", "f"))), filepath.Join(at, "root3"), nobodys())
	if n, err := tree.UnmountBelow(filepath.Join(at, "absent")); n != 0 || err != nil {
		t.Errorf("below what is not there: %d, %v", n, err)
	}
}

func map1(name, data string) dir { return dir{name: data} }

func TestProbeMounter(t *testing.T) {
	needRoot(t)
	checkLeaks(t)
	at := t.TempDir()
	if loops, err := tree.ProbeMounter(at); loops || err != nil {
		t.Errorf("%v, %v (this test needs Linux 6.12.4 with EROFS)", loops, err)
	}
	equalLines(t, snapshot(t, at), nil)

	memory := filepath.Join(at, "memory")
	must(t, os.Mkdir(memory, 0o755))
	must(t, unix.Mount("tmpfs", memory, "tmpfs", 0, ""))
	defer func() { must(t, unix.Unmount(memory, 0)) }()
	if loops, err := tree.ProbeMounter(memory); !loops || err != nil {
		t.Errorf("in memory: %v, %v", loops, err)
	}
	equalLines(t, snapshot(t, memory), nil)

	// An upper layer cannot be on an overlay.
	for _, name := range []string{"lower", "upper", "work", "merged"} {
		must(t, os.Mkdir(filepath.Join(at, name), 0o755))
	}
	merged := filepath.Join(at, "merged")
	must(t, unix.Mount("overlay", merged, "overlay", 0, fmt.Sprintf("lowerdir=%[1]s/lower,upperdir=%[1]s/upper,workdir=%[1]s/work", at)))
	defer func() { must(t, unix.Unmount(merged, 0)) }()
	if _, err := tree.ProbeMounter(merged); err == nil || !strings.Contains(err.Error(), "so not on an overlay") {
		t.Errorf("on an overlay: %v", err)
	}
	equalLines(t, snapshot(t, merged), nil)
}

// In memory all goes by loop devices, which are free again afterwards.
func TestMounterInMemory(t *testing.T) {
	needRoot(t)
	checkLeaks(t)
	at := t.TempDir()
	must(t, unix.Mount("tmpfs", at, "tmpfs", 0, ""))
	t.Cleanup(func() { must(t, unix.Unmount(at, 0)) })
	t.Cleanup(func() {
		backing, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
		must(t, err)
		for _, name := range backing {
			if data, err := os.ReadFile(name); err == nil && strings.Contains(string(data), at) {
				t.Errorf("%s is left", name)
			}
		}
	})
	s := newLeaseStore(t) // whose files cannot be linked to from there
	m := newMounter(t, cannotLink{s.linkStore}, tree.MounterOptions{Dir: filepath.Join(at, "roots"), LoopDevices: true})
	root := filepath.Join(at, "root")
	stageAt(t, m, load(t, s, s.tree(t, dir{"f": "f", "l": large("l")})), root, roots())
	write(t, filepath.Join(root, "f"), "changed", 0o644)
	equalLines(t, snapshot(t, root), []string{"f -rw-r--r-- changed", "l -rw-r--r-- " + large("l")})
}

func TestProbeMounterUnprivileged(t *testing.T) {
	if !inChild(t, &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}) {
		return
	}
	if _, err := tree.ProbeMounter(t.TempDir()); err == nil || !strings.Contains(err.Error(), "root") {
		t.Errorf("got %v", err)
	}
}
