package tree_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/tree"
)

func capture(t testing.TB, s cas.Store, root string, cmd *repb.Command) *repb.ActionResult {
	t.Helper()
	r, err := tree.Capture(t.Context(), s, root, parse(t, cmd))
	must(t, err)
	return r
}

// summary lists a result, one line per output.
func summary(r *repb.ActionResult) []string {
	var lines []string
	for _, f := range r.OutputFiles {
		lines = append(lines, fmt.Sprintf("file %q %d %v", f.Path, f.Digest.SizeBytes, f.IsExecutable))
	}
	for _, d := range r.OutputDirectories {
		lines = append(lines, fmt.Sprintf("dir %q", d.Path))
	}
	for name, links := range map[string][]*repb.OutputSymlink{"link": r.OutputSymlinks, "file link": r.OutputFileSymlinks, "dir link": r.OutputDirectorySymlinks} {
		for _, l := range links {
			lines = append(lines, fmt.Sprintf("%s %q -> %s", name, l.Path, l.Target))
		}
	}
	slices.Sort(lines)
	return lines
}

// outputs makes the output side of an action.
func outputs(t testing.TB) string {
	root := inputRoot(t)
	write(t, filepath.Join(root, "w/file"), "12345", 0o644)
	write(t, filepath.Join(root, "w/run"), "#!", 0o750)
	write(t, filepath.Join(root, "w/empty"), "", 0o644)
	write(t, filepath.Join(root, "w/extra"), "not asked for", 0o644)
	write(t, filepath.Join(root, "w/d/sub/f"), "deep", 0o644)
	must(t, os.Symlink("file", filepath.Join(root, "w/tofile")))
	must(t, os.Symlink("d", filepath.Join(root, "w/todir")))
	must(t, os.Symlink("nowhere", filepath.Join(root, "w/dangling")))
	must(t, os.Symlink("/usr/bin/abs", filepath.Join(root, "w/abs")))
	write(t, filepath.Join(root, "top"), "top", 0o644)
	return root
}

// REAPI G35, G36, G38, G40, F67, F68: kinds as they are, paths as they were asked
// for, each once, no more and no less.
func TestCapturePaths(t *testing.T) {
	checkLeaks(t)
	r := capture(t, newStore(), outputs(t), &repb.Command{WorkingDirectory: "w", OutputPaths: []string{
		"file", "run", "empty", "missing", "missing/too", "file/below", "d", "d/sub/f", "tofile", "todir", "dangling", "abs", "../top", "todir/sub/f",
	}})
	equalLines(t, summary(r), []string{
		`dir "d"`,
		`file "../top" 3 false`, `file "d/sub/f" 4 false`, `file "empty" 0 false`, `file "file" 5 false`, `file "run" 2 true`, `file "todir/sub/f" 4 false`,
		`link "abs" -> /usr/bin/abs`, `link "dangling" -> nowhere`, `link "todir" -> d`, `link "tofile" -> file`,
	})
}

// REAPI G37, K2: the lists of API 2.0.
func TestCaptureLegacy(t *testing.T) {
	r := capture(t, newStore(), outputs(t), &repb.Command{
		WorkingDirectory:  "w",
		OutputFiles:       []string{"file", "missing", "tofile", "dangling", "abs", "d/sub/f"},
		OutputDirectories: []string{"d", "d/sub", "todir", "gone"},
	})
	equalLines(t, summary(r), []string{
		`dir "d"`, `dir "d/sub"`, `dir link "todir" -> d`,
		`file "d/sub/f" 4 false`, `file "file" 5 false`,
		`file link "abs" -> /usr/bin/abs`, `file link "dangling" -> nowhere`, `file link "tofile" -> file`,
	})
}

// REAPI G25, F67, K11: where a client fills all three lists, each output is there
// once.
func TestCaptureAllThreeLists(t *testing.T) {
	all := []string{"file", "d", "tofile"}
	r := capture(t, newStore(), outputs(t), &repb.Command{WorkingDirectory: "w", OutputPaths: all, OutputFiles: all, OutputDirectories: all})
	equalLines(t, summary(r), []string{`dir "d"`, `file "file" 5 false`, `link "tofile" -> file`})
}

// REAPI F56, G37, G39, G44-G46: what cannot be returned is the action's fault,
// found fast, and nothing is stored.
func TestCaptureRefuses(t *testing.T) {
	checkLeaks(t)
	root := outputs(t)
	secret := t.TempDir()
	write(t, filepath.Join(secret, "passwd"), "secret", 0o644)
	in := func(p string) string { return filepath.Join(root, "w", p) }
	must(t, os.Mkdir(in("odd"), 0o755))
	must(t, syscall.Mkfifo(in("odd/fifo"), 0o600))
	must(t, syscall.Mkfifo(in("fifo"), 0o600))
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: in("sock"), Net: "unix"})
	must(t, err)
	defer l.Close()
	must(t, os.Symlink(secret, in("out")))
	must(t, os.Symlink("../../"+filepath.Base(secret), in("up")))
	must(t, os.Symlink("loop", in("loop")))
	write(t, in("names/bad\xff"), "x", 0o644)
	must(t, os.Mkdir(in("targets"), 0o755))
	must(t, os.Symlink("bad\xff", in("targets/l")))
	must(t, os.Mkdir(in("abslink"), 0o755))
	must(t, os.Symlink("/x", in("abslink/l")))
	write(t, in("sparse"), "", 0o644)
	must(t, os.Truncate(in("sparse"), 1<<40))
	deepen(t, in("d"), 450)
	for name, tc := range map[string]struct {
		cmd  *repb.Command
		says string
	}{
		"G37 directory as file":          {&repb.Command{OutputFiles: []string{"w/d"}}, "is a directory"},
		"G37 file as directory":          {&repb.Command{OutputDirectories: []string{"w/file"}}, "is a file"},
		"G37 link to directory as file":  {&repb.Command{OutputFiles: []string{"w/todir"}}, "link to a directory"},
		"G37 link to file as directory":  {&repb.Command{OutputDirectories: []string{"w/tofile"}}, "link to a file"},
		"G39 absolute link":              {&repb.Command{OutputPaths: []string{"w/abs"}}, "absolute target"},
		"G39 absolute link in directory": {&repb.Command{OutputPaths: []string{"w/abslink"}}, "absolute target"},
		"G44 fifo":                       {&repb.Command{OutputFiles: []string{"w/fifo"}}, "fifo, socket or device"},
		"G44 socket":                     {&repb.Command{OutputPaths: []string{"w/sock"}}, "fifo, socket or device"},
		"G44 fifo in a directory":        {&repb.Command{OutputDirectories: []string{"w/odd"}}, "w/odd/fifo"},
		"G45 out of the root":            {&repb.Command{OutputPaths: []string{"w/out/passwd"}}, "out of the input root"},
		"G45 above the root":             {&repb.Command{OutputFiles: []string{"w/up/passwd"}}, "out of the input root"},
		"G45 loop":                       {&repb.Command{OutputFiles: []string{"w/loop/x"}}, "out of the input root"},
		"G46 name":                       {&repb.Command{OutputPaths: []string{"w/names"}}, "UTF-8"},
		"G46 target":                     {&repb.Command{OutputPaths: []string{"w/targets"}}, "UTF-8"},
		"G49 sparse":                     {&repb.Command{OutputFiles: []string{"w/sparse"}}, "1099511627776 bytes"},
		"too deep":                       {&repb.Command{OutputPaths: []string{"w/d"}}, "more than 4095 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore()
			out := parse(t, tc.cmd)
			out.NoAbsoluteSymlinks = true
			_, err := tree.Capture(t.Context(), s, root, out)
			wantOutputError(t, err, tc.says)
			if len(s.puts) > 0 {
				t.Errorf("%d blobs were stored", len(s.puts))
			}
		})
	}
}

// REAPI G45: the input root itself is not followed either.
func TestCaptureReplacedRoot(t *testing.T) {
	secret := t.TempDir()
	write(t, filepath.Join(secret, "x"), "secret", 0o644)
	place := filepath.Join(t.TempDir(), "root")
	out := parse(t, &repb.Command{OutputPaths: []string{"x"}})
	_, err := tree.Capture(t.Context(), newStore(), place, out)
	wantOutputError(t, err, "removed or replaced")
	must(t, os.Symlink(secret, place))
	_, err = tree.Capture(t.Context(), newStore(), place, out)
	wantOutputError(t, err, "removed or replaced")
}

func TestCaptureLimits(t *testing.T) {
	root := outputs(t)
	for says, lim := range map[string]tree.OutputLimits{
		"at most 4 are returned": {MaxFileBytes: 4},
		"together may have 7":    {MaxTotalBytes: 7},
		"at most 3 files":        {MaxNodes: 3},
	} {
		out := parse(t, &repb.Command{OutputPaths: []string{"w/file", "top", "w/d"}})
		out.Limits = lim
		_, err := tree.Capture(t.Context(), newStore(), root, out)
		wantOutputError(t, err, says)
	}
}

// REAPI G32, G41, G42, G43, B16: a Tree that every client can read.
func TestCaptureTree(t *testing.T) {
	checkLeaks(t)
	root := inputRoot(t)
	for _, p := range []string{"a/shared/f", "b/c/shared/f", "b/shared/f"} {
		write(t, filepath.Join(root, "d", p), "same", 0o644)
	}
	write(t, filepath.Join(root, "d/z"), "z", 0o755)
	must(t, os.Symlink("z", filepath.Join(root, "d/l")))
	must(t, os.Mkdir(filepath.Join(root, "void"), 0o755))
	for format, separate := range map[repb.Command_OutputDirectoryFormat]bool{
		repb.Command_TREE_ONLY: false, repb.Command_DIRECTORY_ONLY: true, repb.Command_TREE_AND_DIRECTORY: true, 77: false,
	} {
		s := newStore()
		r := capture(t, s, root, &repb.Command{OutputPaths: []string{"d", "void"}, OutputDirectoryFormat: format})
		if len(r.OutputDirectories) != 2 {
			t.Fatalf("%v", r)
		}
		dirs := checkTree(t, s, r.OutputDirectories[0])
		if len(dirs) != 4 { // d, a (which equals b/c), b, shared
			t.Errorf("%d directories in the Tree", len(dirs))
		}
		checkTree(t, s, r.OutputDirectories[1])
		for i, o := range r.OutputDirectories {
			if (o.RootDirectoryDigest != nil) != separate {
				t.Fatalf("format %v: root directory digest %v", format, o.RootDirectoryDigest)
			}
			if !separate {
				continue
			}
			d, err := cas.FromProto(0, o.RootDirectoryDigest)
			must(t, err)
			if i == 0 && load(t, s, d).Nodes() != 12 {
				t.Errorf("%d nodes by Directories", load(t, s, d).Nodes())
			}
		}
	}
}

// checkTree reads a Tree as the strictest client would and returns the bytes of
// its Directories.
func checkTree(t *testing.T, s *store, o *repb.OutputDirectory) [][]byte {
	t.Helper()
	d, err := cas.FromProto(0, o.TreeDigest)
	must(t, err)
	data, err := cas.ReadAll(t.Context(), s, d, 1<<20)
	must(t, err)
	if !o.IsTopologicallySorted {
		t.Error("the Tree is not marked as sorted")
	}
	expected := map[cas.Digest]bool{} // children that were referenced so far
	var dirs [][]byte
	for len(data) > 0 {
		field, kind, n := protowire.ConsumeTag(data)
		wantField := protowire.Number(1)
		if len(dirs) > 0 {
			wantField = 2
		}
		if n != 1 || field != wantField || kind != protowire.BytesType {
			t.Fatalf("record %d has tag %d/%d", len(dirs), field, kind)
		}
		record, m := protowire.ConsumeBytes(data[n:])
		data = data[n+m:]
		digest := cas.SHA256.Sum(record)
		if len(dirs) > 0 && !expected[digest] {
			t.Fatalf("record %d comes before its parents, or twice", len(dirs))
		}
		delete(expected, digest)
		for _, child := range checkDirectory(t, record) {
			expected[child] = true
		}
		dirs = append(dirs, record)
	}
	if len(expected) > 0 {
		t.Errorf("%d children are missing", len(expected))
	}
	return dirs
}

// checkDirectory checks the canonical form and returns the children.
func checkDirectory(t *testing.T, record []byte) []cas.Digest {
	t.Helper()
	m := &repb.Directory{}
	must(t, proto.Unmarshal(record, m))
	again, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	must(t, err)
	if !bytes.Equal(again, record) || len(m.ProtoReflect().GetUnknown()) > 0 {
		t.Error("a Directory is not canonical")
	}
	var children []cas.Digest
	for _, d := range m.Directories {
		child, err := cas.FromProto(0, d.Digest)
		must(t, err)
		children = append(children, child)
	}
	if !slices.IsSortedFunc(m.Files, func(a, b *repb.FileNode) int { return strings.Compare(a.Name, b.Name) }) {
		t.Error("files are not sorted")
	}
	return children
}

// REAPI G42: equal content, equal bytes, whatever the order of creation.
func TestCaptureIsDeterministic(t *testing.T) {
	var digests []string
	for _, order := range [][]string{{"a/x", "b/y", "b/x", "c/a/x", "z"}, {"z", "c/a/x", "b/x", "b/y", "a/x"}} {
		root := inputRoot(t)
		for _, p := range order {
			write(t, filepath.Join(root, "d", p), filepath.Base(p), 0o644)
		}
		r := capture(t, newStore(), root, &repb.Command{OutputPaths: []string{"d"}})
		digests = append(digests, r.OutputDirectories[0].TreeDigest.Hash)
	}
	if digests[0] != digests[1] {
		t.Error("two Trees of the same content differ")
	}
}

// REAPI G43: "" is the whole working directory; REAPI G30: inputs that are outputs.
func TestCaptureEverything(t *testing.T) {
	root := stage(t, dir{"w": dir{"input": "x"}, "other": "y"})
	write(t, filepath.Join(root, "w/made"), "z", 0o644)
	for _, cmd := range []*repb.Command{
		{WorkingDirectory: "w", OutputPaths: []string{"", "input"}, OutputDirectoryFormat: 1},
		{WorkingDirectory: "w", OutputDirectories: []string{""}, OutputFiles: []string{"input"}, OutputDirectoryFormat: 1},
	} {
		s := newStore()
		r := capture(t, s, root, cmd)
		if len(r.OutputFiles) != 1 || len(r.OutputDirectories) != 1 || r.OutputDirectories[0].Path != "" {
			t.Fatalf("%v", r)
		}
		d, err := cas.FromProto(0, r.OutputDirectories[0].RootDirectoryDigest)
		must(t, err)
		if g := load(t, s, d); g.Nodes() != 3 {
			t.Errorf("%d nodes", g.Nodes())
		}
	}
	r := capture(t, newStore(), root, &repb.Command{OutputPaths: []string{""}})
	if len(r.OutputDirectories) != 1 {
		t.Errorf("%v", r)
	}
}

// REAPI G31: node properties of all that is returned.
func TestCaptureProperties(t *testing.T) {
	root := outputs(t)
	then := time.Unix(1_000_000_000, 123_000_000)
	must(t, os.Chtimes(filepath.Join(root, "w/run"), then, then))
	must(t, os.Chmod(filepath.Join(root, "w/d"), 0o711))
	s := newStore()
	r := capture(t, s, root, &repb.Command{
		WorkingDirectory: "w", OutputPaths: []string{"run", "d", "tofile"}, OutputNodeProperties: []string{"mtime", "unix_mode"},
	})
	p := r.OutputFiles[0].NodeProperties
	if !p.GetMtime().AsTime().Equal(then) || p.GetUnixMode().GetValue() != 0o750 {
		t.Errorf("file: %v", p)
	}
	if p := r.OutputSymlinks[0].NodeProperties; p.GetUnixMode().GetValue() != 0o777 || p.GetMtime() == nil {
		t.Errorf("symlink: %v", p)
	}
	m := &repb.Directory{}
	must(t, proto.Unmarshal(checkTree(t, s, r.OutputDirectories[0])[0], m))
	if m.NodeProperties.GetUnixMode().GetValue() != 0o711 {
		t.Errorf("directory: %v", m.NodeProperties)
	}
	r = capture(t, s, root, &repb.Command{WorkingDirectory: "w", OutputPaths: []string{"run"}})
	if r.OutputFiles[0].NodeProperties != nil {
		t.Errorf("not asked for: %v", r.OutputFiles[0].NodeProperties)
	}
}

// REAPI G49: each blob once, and none that the store has.
func TestCaptureStoresOnce(t *testing.T) {
	root, s := inputRoot(t), newStore()
	big := strings.Repeat("b", 1<<20)
	for _, p := range []string{"1", "2", "d/3"} {
		write(t, filepath.Join(root, p), "same", 0o644)
		write(t, filepath.Join(root, p+"big"), big, 0o644)
	}
	must(t, os.Link(filepath.Join(root, "1big"), filepath.Join(root, "linked")))
	present := s.bytes(t, []byte("present"))
	write(t, filepath.Join(root, "old"), "present", 0o644)
	write(t, filepath.Join(root, "empty"), "", 0o644)
	cmd := &repb.Command{OutputPaths: []string{"1", "2", "d", "1big", "2big", "linked", "old", "empty"}}
	capture(t, s, root, cmd)
	if len(s.puts) != 3 || s.puts[present] != 0 { // same, big and the Tree
		t.Errorf("stored: %v", s.puts)
	}
	capture(t, s, root, cmd)
	for d, n := range s.puts {
		if n != 1 {
			t.Errorf("%v was stored %d times", d, n)
		}
	}
}

// changing is a store in whose FindMissing a left-over process changes a file.
type changing struct {
	*store
	change func()
}

func (s changing) FindMissing(ctx context.Context, ds []cas.Digest) ([]cas.Digest, error) {
	s.change()
	return s.store.FindMissing(ctx, ds)
}

// REAPI G48: a digest is never that of other bytes.
func TestCaptureWhileFilesChange(t *testing.T) {
	checkLeaks(t)
	for name, change := range map[string]func(path string) error{
		"written": func(p string) error { return os.WriteFile(p, bytes.Repeat([]byte("x"), 1<<20), 0o644) },
		"grown":   func(p string) error { return os.Truncate(p, 1<<20+1) },
		"shrunk":  func(p string) error { return os.Truncate(p, 1<<20-1) },
		"gone":    os.Remove,
		"fifo":    func(p string) error { return errors.Join(os.Remove(p), syscall.Mkfifo(p, 0o600)) },
		"link":    func(p string) error { return errors.Join(os.Remove(p), os.Symlink("/etc/passwd", p)) },
	} {
		t.Run(name, func(t *testing.T) {
			root := inputRoot(t)
			p := filepath.Join(root, "f")
			write(t, p, strings.Repeat("b", 1<<20), 0o644)
			s := changing{newStore(), func() { must(t, change(p)) }}
			_, err := tree.Capture(t.Context(), s, root, parse(t, &repb.Command{OutputPaths: []string{"f"}}))
			wantOutputError(t, err, "changed")
		})
	}
}

// full is a store without room.
type full struct{ *store }

func (full) Put(context.Context, *cas.Content) error { return cas.ErrNoSpace }

// REAPI F57: that the store fails is not the action's fault.
func TestCaptureStoreFails(t *testing.T) {
	_, err := tree.Capture(t.Context(), full{newStore()}, outputs(t), parse(t, &repb.Command{OutputPaths: []string{"top", "w"}}))
	if !errors.Is(err, cas.ErrNoSpace) || errors.Is(err, tree.ErrOutput) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(io.ErrNoProgress)
	_, err = tree.Capture(ctx, newStore(), outputs(t), parse(t, &repb.Command{OutputPaths: []string{"top", "w"}}))
	if !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("cancelled: %v", err)
	}
}

// REAPI A3, B5, F68: any digest function.
func TestCaptureFunctions(t *testing.T) {
	for _, f := range cas.Functions() {
		out, err := tree.ParseOutputs(&repb.Command{OutputPaths: []string{"top", "w"}}, f)
		must(t, err)
		s := newStore()
		r, err := tree.Capture(t.Context(), s, outputs(t), out)
		must(t, err)
		d, err := cas.FromProto(f.Proto(), r.OutputFiles[0].Digest)
		must(t, err)
		if data, err := cas.ReadAll(t.Context(), s, d, 100); err != nil || string(data) != "top" || d != f.Sum(data) {
			t.Errorf("%v: %q, %v", f, data, err)
		}
	}
}

// REAPI G47: modes keep nobody out who owns the files, and are returned as they
// were. (Root never notices.)
func TestCaptureUnreadable(t *testing.T) {
	if !inChild(t, &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}) {
		return
	}
	base := t.TempDir()
	root := filepath.Join(base, "root")
	write(t, filepath.Join(root, "d/x/f"), "secret", 0)
	must(t, os.Symlink("f", filepath.Join(root, "d/x/l")))
	write(t, filepath.Join(root, "p/f"), "f", 0o111)
	for _, d := range []string{"d/x", "d", "p"} {
		must(t, os.Chmod(filepath.Join(root, d), 0))
	}
	s := newStore()
	r := capture(t, s, root, &repb.Command{OutputPaths: []string{"d", "p/f"}, OutputNodeProperties: []string{"unix_mode"}})
	if len(r.OutputFiles) != 1 || !r.OutputFiles[0].IsExecutable || r.OutputFiles[0].NodeProperties.UnixMode.Value != 0o111 {
		t.Errorf("%v", r.OutputFiles)
	}
	for i, record := range checkTree(t, s, r.OutputDirectories[0]) {
		m := &repb.Directory{}
		must(t, proto.Unmarshal(record, m))
		if m.NodeProperties.UnixMode.Value != 0 || i == 1 && (m.Files[0].IsExecutable || m.Files[0].NodeProperties.UnixMode.Value != 0 || m.Symlinks[0].Target != "f") {
			t.Errorf("directory %d: %v", i, m)
		}
	}
	for _, d := range []string{"d/x", "d", "p"} {
		must(t, os.Chmod(filepath.Join(root, d), 0))
	}
	must(t, os.Rename(root, filepath.Join(base, "rubbish")))
	must(t, tree.SweepTrash(base))
	equalLines(t, snapshot(t, base), nil)
}
