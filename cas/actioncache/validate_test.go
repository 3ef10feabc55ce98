package actioncache

import (
	"errors"
	"strings"
	"testing"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"

	"github.com/hearth-build/hearth/cas"
)

// REAPI E9, E10.
func TestValidate(t *testing.T) {
	d := cas.SHA256.Sum([]byte("x")).Proto()
	files := func(paths ...string) *repb.ActionResult {
		r := &repb.ActionResult{}
		for _, p := range paths {
			r.OutputFiles = append(r.OutputFiles, &repb.OutputFile{Path: p, Digest: d})
		}
		return r
	}
	dirs := func(paths ...string) *repb.ActionResult {
		r := &repb.ActionResult{}
		for _, p := range paths {
			r.OutputDirectories = append(r.OutputDirectories, &repb.OutputDirectory{Path: p, TreeDigest: d})
		}
		return r
	}
	//lint:file-ignore SA1019 deprecated in the API, and sent all the same.
	links := func(path, target string) []*repb.OutputSymlink {
		return []*repb.OutputSymlink{{Path: path, Target: target}}
	}
	file := func(digest *repb.Digest) *repb.ActionResult {
		return &repb.ActionResult{OutputFiles: []*repb.OutputFile{{Path: "f", Digest: digest}}}
	}
	for _, tc := range []struct {
		name string
		r    *repb.ActionResult
		ok   bool
	}{
		{"nothing in it", &repb.ActionResult{}, true},
		{"ordinary", files("a", "b/c", "b/..d", "..."), true},
		{"directories", dirs("", "out"), true},
		{"root directory only", &repb.ActionResult{OutputDirectories: []*repb.OutputDirectory{{Path: "d", RootDirectoryDigest: d}}}, true},
		{"logs", &repb.ActionResult{StdoutDigest: d, StderrDigest: cas.SHA256.Empty().Proto()}, true},
		{"symlinks, old and new", &repb.ActionResult{
			OutputSymlinks:          append(links("l", "t"), links("m", "/abs")...),
			OutputFileSymlinks:      links("l", "t"),
			OutputDirectorySymlinks: links("m", "/abs"),
		}, true},
		{"a failed action", &repb.ActionResult{ExitCode: 1}, true},

		{"absent", nil, false},
		{"absolute path", files("/a"), false},
		{"parent", files("a/../../b"), false},
		{"only parent", dirs(".."), false},
		{"NUL", files("a\x00b"), false},
		{"empty path", files(""), false},
		{"absolute directory", dirs("/"), false},
		{"twice", files("a", "a"), false},
		{"twice empty", dirs("", ""), false},
		{"file and symlink", &repb.ActionResult{OutputFiles: files("a").OutputFiles, OutputSymlinks: links("a", "t")}, false},
		{"file and old symlink", &repb.ActionResult{OutputFiles: files("a").OutputFiles, OutputFileSymlinks: links("a", "t")}, false},
		{"both old symlinks", &repb.ActionResult{OutputFileSymlinks: links("a", "t"), OutputDirectorySymlinks: links("a", "t")}, false},
		{"file and directory", &repb.ActionResult{OutputFiles: files("a").OutputFiles, OutputDirectories: dirs("a").OutputDirectories}, false},
		{"symlink to nothing", &repb.ActionResult{OutputSymlinks: links("a", "")}, false},
		{"symlink to NUL", &repb.ActionResult{OutputSymlinks: links("a", "b\x00")}, false},
		{"symlink outside", &repb.ActionResult{OutputSymlinks: links("../a", "b")}, false},
		{"nil file", &repb.ActionResult{OutputFiles: []*repb.OutputFile{nil}}, false},
		{"nil directory", &repb.ActionResult{OutputDirectories: []*repb.OutputDirectory{nil}}, false},
		{"nil symlink", &repb.ActionResult{OutputSymlinks: []*repb.OutputSymlink{nil}}, false},
		{"no digest", file(nil), false},
		{"short hash", file(&repb.Digest{Hash: "ab", SizeBytes: 1}), false},
		{"negative size", file(&repb.Digest{Hash: d.Hash, SizeBytes: -1}), false},
		{"size 0 of another hash", file(&repb.Digest{Hash: d.Hash}), false},
		{"another function", file(cas.SHA1.Sum(nil).Proto()), false},
		{"bad stdout", &repb.ActionResult{StdoutDigest: &repb.Digest{Hash: "x"}}, false},
		{"bad stderr", &repb.ActionResult{StderrDigest: &repb.Digest{}}, false},
		{"bad tree", &repb.ActionResult{OutputDirectories: []*repb.OutputDirectory{{Path: "d", TreeDigest: &repb.Digest{}}}}, false},
		{"bad root", &repb.ActionResult{OutputDirectories: []*repb.OutputDirectory{{Path: "d", TreeDigest: d, RootDirectoryDigest: &repb.Digest{}}}}, false},
	} {
		err := Validate(tc.r, cas.SHA256)
		if tc.ok && err != nil || !tc.ok && !errors.Is(err, ErrInvalidResult) {
			t.Errorf("%s: got %v, want it valid: %t", tc.name, err, tc.ok)
		}
	}
}

func TestValidateKeepsErrorsShort(t *testing.T) {
	r := &repb.ActionResult{OutputFiles: []*repb.OutputFile{{Path: "/" + strings.Repeat("x\x01", 1<<20)}}}
	err := Validate(r, cas.SHA256)
	if err == nil || len(err.Error()) > 2000 || strings.ContainsRune(err.Error(), 1) {
		t.Errorf("got an error of %d bytes", len(err.Error()))
	}
}
