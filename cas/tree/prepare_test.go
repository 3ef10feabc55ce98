package tree_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/tree"
)

func parse(t testing.TB, cmd *repb.Command) tree.Outputs {
	t.Helper()
	out, err := tree.ParseOutputs(cmd, cas.SHA256)
	must(t, err)
	return out
}

// stage stages a directory for nobody and returns its place.
func stage(t testing.TB, d dir) string {
	t.Helper()
	s := newStore()
	root := filepath.Join(t.TempDir(), "root")
	_, err := newCopier(t, s).Stage(t.Context(), load(t, s, s.tree(t, d)), root, nobodys())
	must(t, err)
	return root
}

// REAPI G24-G27, G31, G32, F67, K11: what may be declared, and what may not. An
// output that two lists name is one output, or else it would be one declared twice.
func TestParseOutputs(t *testing.T) {
	long := strings.Repeat("n", 256)
	for name, tc := range map[string]struct {
		cmd  *repb.Command
		says string // "": accepted
	}{
		"nothing":                        {&repb.Command{}, ""},
		"G26 inside":                     {&repb.Command{WorkingDirectory: "a/b", OutputPaths: []string{"x", "../y", "../../z", "c/../d"}}, ""},
		"G26 everything":                 {&repb.Command{OutputPaths: []string{""}}, ""},
		"G26 a directory everything":     {&repb.Command{OutputDirectories: []string{""}}, ""},
		"G26 odd names":                  {&repb.Command{OutputPaths: []string{"-x", "a b", "\n", "ü", "..."}}, ""},
		"G26 absolute":                   {&repb.Command{OutputPaths: []string{"/a"}}, "absolute"},
		"G26 trailing slash":             {&repb.Command{OutputDirectories: []string{"a/"}}, "empty segment"},
		"G26 doubled slash":              {&repb.Command{OutputPaths: []string{"a//b"}}, "empty segment"},
		"G26 dot":                        {&repb.Command{OutputPaths: []string{"./a"}}, `segment "."`},
		"G26 only a dot":                 {&repb.Command{OutputPaths: []string{"."}}, `segment "."`},
		"G26 NUL":                        {&repb.Command{OutputFiles: []string{"a\x00"}}, "NUL"},
		"G26 empty file":                 {&repb.Command{OutputFiles: []string{""}}, "empty"},
		"G26 escaping":                   {&repb.Command{WorkingDirectory: "a", OutputPaths: []string{"../../x"}}, "leads out"},
		"G26 out and back":               {&repb.Command{OutputPaths: []string{"../root/x"}}, "leads out"},
		"G26 long name":                  {&repb.Command{OutputPaths: []string{long}}, "255"},
		"G26 long path":                  {&repb.Command{OutputPaths: []string{strings.Repeat("a/", 2048) + "a"}}, "longer"},
		"G26 bad UTF-8":                  {&repb.Command{OutputPaths: []string{"\xff"}}, "UTF-8"},
		"G27 unsorted":                   {&repb.Command{OutputPaths: []string{"b", "a"}}, ""},
		"G27 nested paths":               {&repb.Command{OutputPaths: []string{"a", "a/b"}}, ""},
		"G27 nested directories":         {&repb.Command{OutputDirectories: []string{"a", "a/b"}, OutputFiles: []string{"a/c"}}, ""},
		"G27 duplicate":                  {&repb.Command{OutputPaths: []string{"a", "a"}}, "twice"},
		"G27 duplicate by another name":  {&repb.Command{WorkingDirectory: "w", OutputPaths: []string{"a", "../w/a"}}, "twice"},
		"G27 file and directory":         {&repb.Command{OutputFiles: []string{"a"}, OutputDirectories: []string{"a"}}, "twice"},
		"G27 file as parent":             {&repb.Command{OutputFiles: []string{"a", "a/b/c"}}, "parent"},
		"G27 file above a directory":     {&repb.Command{OutputFiles: []string{"a"}, OutputDirectories: []string{"a/b"}}, "parent"},
		"G25 all three lists":            {&repb.Command{OutputPaths: []string{"a"}, OutputFiles: []string{"a"}, OutputDirectories: []string{"a"}}, ""},
		"G25 the others are not read":    {&repb.Command{OutputPaths: []string{"a"}, OutputFiles: []string{"/bad"}}, ""},
		"G31 known":                      {&repb.Command{OutputNodeProperties: []string{"mtime", "unix_mode"}}, ""},
		"G31 unknown":                    {&repb.Command{OutputNodeProperties: []string{"color"}}, "color"},
		"G32 unknown format":             {&repb.Command{OutputDirectoryFormat: 99}, ""},
		"G24 absolute":                   {&repb.Command{WorkingDirectory: "/x"}, "absolute"},
		"G24 escaping":                   {&repb.Command{WorkingDirectory: "a/../.."}, "leads out"},
		"G24 NUL":                        {&repb.Command{WorkingDirectory: "a\x00"}, "NUL"},
		"G24 long name":                  {&repb.Command{WorkingDirectory: long}, "255"},
		"G24 not in the normal form, ok": {&repb.Command{WorkingDirectory: "./a//b/"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := tree.ParseOutputs(tc.cmd, cas.SHA256)
			if tc.says == "" {
				must(t, err)
				return
			}
			wantInvalid(t, err, tc.says)
		})
	}
	out := parse(t, &repb.Command{WorkingDirectory: "./a//b/"})
	if out.WorkingDirectory() != "a/b" {
		t.Errorf("working directory %q", out.WorkingDirectory())
	}
}

// REAPI G28: parents are made, above the working directory too, for the action
// to write in; outputs are not.
func TestPrepare(t *testing.T) {
	needRoot(t)
	checkLeaks(t)
	root := stage(t, dir{"w": dir{"src": "x", "sub": dir{}}, "link": link("w/sub"), "w2": link("w")})
	out := parse(t, &repb.Command{
		WorkingDirectory:  "w",
		OutputFiles:       []string{"o/p/q/file", "../top/file", "src", "sub/file", "../link/deep/file"},
		OutputDirectories: []string{"o/dir", "../lone"},
	})
	must(t, tree.Prepare(root, out, nobodys()))
	equalLines(t, snapshot(t, root), []string{
		"link -> w/sub", "top drwxr-xr-x", "w drwxr-xr-x",
		"w/o drwxr-xr-x", "w/o/p drwxr-xr-x", "w/o/p/q drwxr-xr-x",
		"w/src -r--r--r-- x", "w/sub drwxr-xr-x", "w/sub/deep drwxr-xr-x", "w2 -> w",
	})
	for _, d := range []string{"top", "w/o", "w/o/p/q", "w/sub/deep"} {
		if st := statOf(t, filepath.Join(root, d)); st.Uid != nobody || st.Gid != nobody {
			t.Errorf("%s belongs to %d:%d", d, st.Uid, st.Gid)
		}
	}
	must(t, tree.Prepare(root, parse(t, &repb.Command{WorkingDirectory: "w2", OutputPaths: []string{"", "x/y"}}), nobodys()))
	if _, err := os.Lstat(filepath.Join(root, "w/x")); err != nil { // REAPI G24: by a link that stays inside
		t.Error(err)
	}
}

// REAPI G24, G29: nothing is followed out of the root, nothing made there.
func TestPrepareRefuses(t *testing.T) {
	outside := t.TempDir()
	inputs := dir{"file": "x", "abs": link(outside), "up": link("../../.."), "dangling": link("nowhere"), "loop": link("loop")}
	for name, tc := range map[string]struct {
		cmd  *repb.Command
		says string
	}{
		"no working directory":           {&repb.Command{WorkingDirectory: "w", OutputPaths: []string{"x"}}, "not in the input root"},
		"only made as a parent":          {&repb.Command{WorkingDirectory: "w", OutputPaths: []string{"../w/o/x"}}, "not in the input root"},
		"working directory is a file":    {&repb.Command{WorkingDirectory: "file"}, "not a directory"},
		"working directory below a file": {&repb.Command{WorkingDirectory: "file/x"}, "not a directory"},
		"working directory outside":      {&repb.Command{WorkingDirectory: "abs"}, "out of the input root"},
		"working directory above":        {&repb.Command{WorkingDirectory: "up"}, "out of the input root"},
		"working directory by a loop":    {&repb.Command{WorkingDirectory: "loop"}, "cannot be followed"},
		"parent is a file":               {&repb.Command{OutputPaths: []string{"file/x"}}, "is a file"},
		"grandparent is a file":          {&repb.Command{OutputPaths: []string{"file/x/y"}}, "is a file"},
		"parent outside":                 {&repb.Command{OutputPaths: []string{"abs/x"}}, "out of the input root"},
		"parent above":                   {&repb.Command{OutputPaths: []string{"up/x/y"}}, "out of the input root"},
		"parent is a dangling link":      {&repb.Command{OutputPaths: []string{"dangling/x"}}, "link to nothing"},
		"parent is a link to itself":     {&repb.Command{OutputPaths: []string{"loop/x"}}, "cannot be followed"},
	} {
		t.Run(name, func(t *testing.T) {
			root := stage(t, inputs)
			before := snapshot(t, root)
			wantInvalid(t, tree.Prepare(root, parse(t, tc.cmd), nobodys()), tc.says)
			equalLines(t, snapshot(t, root), before)
			equalLines(t, snapshot(t, outside), nil)
		})
	}
}
