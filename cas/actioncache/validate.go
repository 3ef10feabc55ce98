package actioncache

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"

	"github.com/hearth-build/hearth/cas"
)

// ErrInvalidResult is what a result from outside is that breaks the rules of the
// API.
var ErrInvalidResult = errors.New("invalid action result")

// Validate checks a result that a client wants stored: its digests are well
// formed and of function f, its paths stay below the working directory, and no
// two outputs share a name.
func Validate(r *repb.ActionResult, f cas.Function) error {
	if r == nil {
		return fmt.Errorf("%w: it is absent", ErrInvalidResult)
	}
	v := validator{function: f}
	for _, file := range r.GetOutputFiles() {
		v.path(file.GetPath(), false)
		v.digest("output file "+quote(file.GetPath()), file.GetDigest())
	}
	for _, dir := range r.GetOutputDirectories() {
		v.path(dir.GetPath(), true)
		v.directory(dir)
	}
	// A path may be both in output_symlinks and in one of the older lists,
	// which say the same to older clients.
	files := len(v.paths)
	for _, link := range r.GetOutputSymlinks() {
		v.symlink(link)
	}
	v.unique(v.paths)
	v.paths = v.paths[:files]
	for _, link := range olderSymlinks(r) {
		v.symlink(link)
	}
	v.unique(v.paths)
	for name, p := range map[string]*repb.Digest{"stdout": r.GetStdoutDigest(), "stderr": r.GetStderrDigest()} {
		if p != nil {
			v.digest(name, p)
		}
	}
	return v.err
}

// olderSymlinks returns what clients of API 2.0 know symlinks from.
func olderSymlinks(r *repb.ActionResult) []*repb.OutputSymlink {
	//lint:ignore SA1019 deprecated in the API, and sent all the same.
	return slices.Concat(r.GetOutputFileSymlinks(), r.GetOutputDirectorySymlinks())
}

// validator keeps the first thing that is wrong.
type validator struct {
	function cas.Function
	paths    []string
	err      error
}

func (v *validator) fail(format string, args ...any) {
	if v.err == nil {
		v.err = fmt.Errorf("%w: "+format, append([]any{ErrInvalidResult}, args...)...)
	}
}

func (v *validator) digest(of string, p *repb.Digest) {
	if _, err := cas.FromProto(v.function.Proto(), p); err != nil {
		v.fail("%s: %w", of, err)
	}
}

func (v *validator) directory(dir *repb.OutputDirectory) {
	of := "output directory " + quote(dir.GetPath())
	tree, root := dir.GetTreeDigest(), dir.GetRootDirectoryDigest()
	if tree != nil || root == nil {
		v.digest(of, tree)
	}
	if root != nil {
		v.digest(of, root)
	}
}

func (v *validator) symlink(link *repb.OutputSymlink) {
	v.path(link.GetPath(), false)
	if target := link.GetTarget(); target == "" || strings.ContainsRune(target, 0) {
		v.fail("output symlink %s: its target is %s", quote(link.GetPath()), quote(target))
	}
}

func (v *validator) path(p string, mayBeEmpty bool) {
	v.paths = append(v.paths, p)
	switch {
	case p == "" && !mayBeEmpty:
		v.fail("an output has no path")
	case strings.HasPrefix(p, "/"):
		v.fail("output path %s is absolute", quote(p))
	case strings.ContainsRune(p, 0):
		v.fail("output path %s has a NUL in it", quote(p))
	}
	for segment := range strings.SplitSeq(p, "/") {
		if segment == ".." {
			v.fail("output path %s leaves the working directory", quote(p))
		}
	}
}

func (v *validator) unique(paths []string) {
	seen := make(map[string]bool, len(paths))
	for _, p := range paths {
		if seen[p] {
			v.fail("two outputs are named %s", quote(p))
		}
		seen[p] = true
	}
}

// quote makes any text fit for an error.
func quote(s string) string { return fmt.Sprintf("%.200q", s) }
