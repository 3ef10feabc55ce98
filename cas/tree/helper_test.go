package tree_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/memory"
	"github.com/hearth-build/hearth/cas/tree"
)

const nobody = 65534

// dir describes a directory: the values are file (or string), exe, link or dir.
type (
	dir  map[string]any
	exe  string
	link string
)

// store is a memory store that counts, and can be told to lose or change blobs.
type store struct {
	*memory.Store

	mu   sync.Mutex
	gets map[cas.Digest]int
	puts map[cas.Digest]int
	lost map[cas.Digest]bool
	fail error // of Get
}

func newStore() *store {
	return &store{Store: memory.New(0), gets: map[cas.Digest]int{}, puts: map[cas.Digest]int{}, lost: map[cas.Digest]bool{}}
}

func (s *store) Get(ctx context.Context, d cas.Digest, offset int64) (io.ReadCloser, error) {
	s.mu.Lock()
	s.gets[d]++
	lost, fail := s.lost[d], s.fail
	s.mu.Unlock()
	if lost {
		return nil, &cas.MissingError{Digests: []cas.Digest{d}}
	}
	if fail != nil {
		return nil, fail
	}
	return s.Store.Get(ctx, d, offset)
}

func (s *store) Put(ctx context.Context, c *cas.Content) error {
	s.mu.Lock()
	s.puts[c.Digest()]++
	s.mu.Unlock()
	return s.Store.Put(ctx, c)
}

func (s *store) FindMissing(ctx context.Context, ds []cas.Digest) ([]cas.Digest, error) {
	missing, err := s.Store.FindMissing(ctx, ds)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range ds {
		if s.lost[d] && !slices.Contains(missing, d) {
			missing = append(missing, d)
		}
	}
	return missing, err
}

// bytes stores a blob.
func (s *store) bytes(t testing.TB, data []byte) cas.Digest {
	t.Helper()
	d, err := cas.PutBytes(t.Context(), s.Store, cas.SHA256, data)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func (s *store) message(t testing.TB, m proto.Message) cas.Digest {
	t.Helper()
	data, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return s.bytes(t, data)
}

// tree stores all of a directory and returns its digest.
func (s *store) tree(t testing.TB, d dir) cas.Digest {
	t.Helper()
	m := &repb.Directory{}
	var names []string
	for name := range d {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		switch v := d[name].(type) {
		case string:
			m.Files = append(m.Files, &repb.FileNode{Name: name, Digest: s.bytes(t, []byte(v)).Proto()})
		case exe:
			m.Files = append(m.Files, &repb.FileNode{Name: name, Digest: s.bytes(t, []byte(v)).Proto(), IsExecutable: true})
		case link:
			m.Symlinks = append(m.Symlinks, &repb.SymlinkNode{Name: name, Target: string(v)})
		case dir:
			m.Directories = append(m.Directories, &repb.DirectoryNode{Name: name, Digest: s.tree(t, v).Proto()})
		default:
			t.Fatalf("no entry: %T", v)
		}
	}
	return s.message(t, m)
}

// linkStore is a store whose blobs can be had as links: each becomes a file of
// its own at the first Link.
type linkStore struct {
	*store
	dir   string
	mu    sync.Mutex
	links int
}

var _ cas.Linker = (*linkStore)(nil)

func newLinkStore(t testing.TB) *linkStore { return &linkStore{store: newStore(), dir: t.TempDir()} }

func (s *linkStore) Link(ctx context.Context, d cas.Digest, dirFD int, name string, executable bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	path, mode := filepath.Join(s.dir, d.Hash()), os.FileMode(0o444)
	if executable {
		path, mode = path+"x", 0o555
	}
	if _, err := os.Lstat(path); err != nil {
		data, err := cas.ReadAll(ctx, s.store, d, d.Size())
		if err != nil {
			return err
		}
		if err := errors.Join(os.WriteFile(path, data, mode), os.Chmod(path, mode)); err != nil {
			return err
		}
	}
	s.links++
	return unix.Linkat(unix.AT_FDCWD, path, dirFD, name, 0)
}

// load loads a graph that must be valid.
func load(t testing.TB, g cas.Getter, root cas.Digest) *tree.Graph {
	t.Helper()
	graph, err := tree.Load(t.Context(), g, root, tree.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return graph
}

// snapshot lists what is below a directory, one line per entry: mode, path, and
// content or target.
func snapshot(t testing.TB, root string) []string {
	t.Helper()
	var lines []string
	err := filepath.Walk(root, func(p string, info os.FileInfo, err error) error {
		if err != nil || p == root {
			return err
		}
		rel, _ := filepath.Rel(root, p)
		what := ""
		switch {
		case info.Mode().IsRegular():
			data, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			what = string(data)
		case info.Mode()&os.ModeSymlink != 0:
			target, err := os.Readlink(p)
			if err != nil {
				return err
			}
			lines = append(lines, rel+" -> "+target)
			return nil
		}
		lines = append(lines, strings.TrimSpace(fmt.Sprintf("%s %v %s", rel, info.Mode(), what)))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

func equalLines(t testing.TB, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// write makes a file and its parents.
func write(t testing.TB, path, data string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(data), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wantInvalid checks that err is an InvalidError whose text has all the words.
func wantInvalid(t testing.TB, err error, words ...string) {
	t.Helper()
	var invalid *tree.InvalidError
	if !errors.Is(err, tree.ErrInvalid) || !errors.As(err, &invalid) {
		t.Fatalf("got error %v, want an InvalidError", err)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error %q does not say %q", err, w)
		}
	}
}

func wantOutputError(t testing.TB, err error, words ...string) {
	t.Helper()
	var bad *tree.OutputError
	if !errors.Is(err, tree.ErrOutput) || !errors.As(err, &bad) {
		t.Fatalf("got error %v, want an OutputError", err)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error %q does not say %q", err, w)
		}
	}
}

// eventually polls until ok or a deadline.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("%s did not happen in 20 seconds", what)
		case <-tick.C:
		}
	}
}

// checkLeaks fails the test if it leaves file descriptors or goroutines.
func checkLeaks(t *testing.T) {
	t.Helper()
	fds, goroutines := openFiles(t), runtime.NumGoroutine()
	t.Cleanup(func() {
		eventually(t, "the end of all goroutines and open files", func() bool {
			return openFiles(t) <= fds && runtime.NumGoroutine() <= goroutines
		})
	})
}

func openFiles(t testing.TB) int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// inputRoot is an empty directory to be captured, of one kind or the other.
func inputRoot(t testing.TB) string {
	t.Helper()
	root := t.TempDir()
	if os.Getenv(envMounted) != "" {
		s := newStore()
		stageAt(t, newMounter(t, s, tree.MounterOptions{}), load(t, s, s.tree(t, dir{"input": "x"})), root, roots())
		must(t, os.Remove(filepath.Join(root, "input")))
	}
	return root
}

// envMounted makes inputRoot a mount.
const envMounted = "TREE_TEST_MOUNTED"

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test needs root: it gives files to other users")
	}
}

// publicDir is a new directory that every user can enter.
func publicDir(t testing.TB) string {
	t.Helper()
	d := t.TempDir()
	must(t, os.Chmod(filepath.Dir(d), 0o755))
	must(t, os.Chmod(d, 0o777))
	return d
}

// inChild runs the calling test once more in a process of its own; it returns
// true there. In the parent it fails the test if the child's failed.
func inChild(t *testing.T, attr *syscall.SysProcAttr) bool {
	t.Helper()
	if os.Getenv("TREE_TEST_CHILD") == t.Name() {
		return true
	}
	needRoot(t)
	tmp := publicDir(t)
	self, err := os.ReadFile("/proc/self/exe")
	must(t, err)
	binary := filepath.Join(tmp, "tree.test")
	must(t, os.WriteFile(binary, self, 0o755))
	cmd := exec.CommandContext(t.Context(), binary, "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Dir = tmp
	cmd.Env = append(os.Environ(), "TREE_TEST_CHILD="+t.Name(), "TMPDIR="+tmp)
	cmd.SysProcAttr = attr
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Fatalf("child: %v\n%s", err, out)
	}
	return false
}
