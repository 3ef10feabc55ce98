package tree_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/tree"
)

// workspaceRig is a workspace in the hands of nobody's actions.
type workspaceRig struct {
	*tree.Workspace
	t      *testing.T
	store  *linkStore
	copier *tree.Copier
	dir    string
	opts   tree.WorkspaceOptions
}

func newWorkspaceRig(t *testing.T) *workspaceRig {
	t.Helper()
	needRoot(t)
	r := &workspaceRig{t: t, store: newLinkStore(t), dir: filepath.Join(publicDir(t), "root")}
	r.copier = newCopier(t, r.store)
	r.Workspace = r.copier.Workspace(r.dir)
	r.opts.StageOptions = nobodys()
	return r
}

// stage shows a tree.
func (r *workspaceRig) stage(d dir) tree.Staged {
	r.t.Helper()
	staged, err := r.Stage(r.t.Context(), load(r.t, r.store, r.store.tree(r.t, d)), r.opts)
	must(r.t, err)
	return staged
}

// fresh is what a new directory looks like that shows a tree.
func (r *workspaceRig) fresh(d dir) []string {
	r.t.Helper()
	at := filepath.Join(r.t.TempDir(), "fresh")
	stageAt(r.t, r.copier, load(r.t, r.store, r.store.tree(r.t, d)), at, r.opts.StageOptions)
	return snapshot(r.t, at)
}

// outputs of a command.
func outputsOf(t *testing.T, paths ...string) tree.Outputs {
	t.Helper()
	out, err := tree.ParseOutputs(&repb.Command{Arguments: []string{"x"}, OutputPaths: paths}, cas.SHA256)
	must(t, err)
	return out
}

// REAPI G16: whatever an action did, the next one has its input root and nothing
// else, in the same directory; and what is the same in both was not made again.
func TestWorkspaceIsAsFresh(t *testing.T) {
	first := dir{"keep": "same", "tool": exe("#!/bin/sh\n"), "old": "old", "was": dir{"f": "f"}, "sub": dir{"deep": dir{"keep": "same too", "g": "g"}}, "l": link("keep"), "m": link("old")}
	second := dir{"keep": "same", "tool": "no tool any more", "new": "new", "was": "a file now", "sub": dir{"deep": dir{"keep": "same too", "g": "h"}}, "l": link("keep"), "m": link("new")}
	for name, script := range map[string]string{
		"nothing":     "true",
		"adds":        "echo x > x; mkdir -p d/e && echo y > d/e/f; mkfifo sub/p; ln -s / sub/deep/root; chmod 000 d/e d",
		"removes":     "rm -rf keep sub/deep l; rmdir sub",
		"replaces":    "rm keep && echo evil > keep; mv sub/deep/keep x; echo evil > sub/deep/keep; ln -sf / l; chmod 4777 keep",
		"swaps":       "mv keep t; mv sub/deep/keep keep; mv t sub/deep/keep",
		"exchanges":   "mv sub elsewhere; ln -s elsewhere sub; rm -rf was; ln -s /etc was",
		"locks":       "chmod 000 sub/deep; chmod 500 sub; chmod 777 .",
		"makes roots": "ln keep hard 2> /dev/null; mkdir -p new/x sub/deep/g.d; rm sub/deep/g; mkdir sub/deep/g",
	} {
		t.Run(name, func(t *testing.T) {
			r := newWorkspaceRig(t)
			for i, d := range []dir{first, second, second, first} {
				staged := r.stage(d)
				equalLines(t, snapshot(t, r.dir), r.fresh(d))
				root, kept := statOf(t, r.dir), statOf(t, filepath.Join(r.dir, "keep"))
				runAs(t, nobody, r.dir, script)
				must(t, staged.Remove())
				for _, line := range snapshot(t, r.dir) {
					if !slices.Contains(r.fresh(d), line) {
						t.Errorf("after action %d there is %q", i, line)
					}
				}
				if now := statOf(t, r.dir); now.Ino != root.Ino || now.Mode != root.Mode {
					t.Errorf("the directory is another one")
				}
				again := r.stage(d)
				if name == "nothing" || name == "adds" {
					if now := statOf(t, filepath.Join(r.dir, "keep")); now.Ino != kept.Ino {
						t.Errorf("what was the same was made again")
					}
				}
				must(t, again.Remove())
			}
		})
	}
}

// What the action may write to is made again for each.
func TestWorkspaceOfWritableInputs(t *testing.T) {
	r := newWorkspaceRig(t)
	r.opts.Writable, r.opts.AllowLinks = true, false
	inputs := dir{"f": "content", "sub": dir{"g": "g"}}
	for range 2 {
		staged := r.stage(inputs)
		equalLines(t, snapshot(t, r.dir), r.fresh(inputs))
		runAs(t, nobody, r.dir, "echo x > f; echo more >> sub/g")
		must(t, staged.Remove())
	}
}

// A workspace that is not the one that it was is not used again.
func TestWorkspaceReplaced(t *testing.T) {
	for name, replace := range map[string]func(dir string) error{
		"another": func(dir string) error { return errors.Join(os.Rename(dir, dir+"-old"), os.Mkdir(dir, 0o755)) },
		"a link":  func(dir string) error { return errors.Join(os.Rename(dir, dir+"-old"), os.Symlink(dir+"-old", dir)) },
		"gone":    os.RemoveAll,
		"a file":  func(dir string) error { return errors.Join(os.RemoveAll(dir), os.WriteFile(dir, nil, 0o600)) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newWorkspaceRig(t)
			staged := r.stage(dir{"f": "content"})
			must(t, replace(r.dir))
			if err := staged.Remove(); !errors.Is(err, tree.ErrReplaced) {
				t.Errorf("Remove: %v", err)
			}
			if _, err := r.Stage(t.Context(), load(t, r.store, r.store.tree(t, dir{"f": "content"})), r.opts); !errors.Is(err, tree.ErrReplaced) {
				t.Errorf("Stage: %v", err)
			}
		})
	}
}

// After the store has lost something, nothing that was made before is used. REAPI F45:
// what is missing is named, and once it is there, it works.
func TestWorkspaceForgets(t *testing.T) {
	r := newWorkspaceRig(t)
	inputs := dir{"empty": "", "f": "content"}
	must(t, r.stage(inputs).Remove())
	before := statOf(t, filepath.Join(r.dir, "empty"))
	must(t, os.Link(filepath.Join(r.dir, "empty"), filepath.Join(r.t.TempDir(), "holds the inode")))
	must(t, r.copier.Forget())
	lost := cas.SHA256.Sum([]byte("content"))
	r.store.lost[lost] = true
	must(t, os.Remove(filepath.Join(r.store.dir, lost.Hash())))
	_, err := r.Stage(t.Context(), load(t, r.store, r.store.tree(t, inputs)), r.opts)
	var missing *cas.MissingError
	if !errors.As(err, &missing) || !slices.Equal(missing.Digests, []cas.Digest{lost}) {
		t.Fatalf("got %v", err)
	}
	clear(r.store.lost)
	must(t, r.stage(inputs).Remove())
	if statOf(t, filepath.Join(r.dir, "empty")).Ino == before.Ino {
		t.Error("a file from before is still used")
	}
}

// With Preserve, what an action left stays, but for its outputs, and for inputs that
// are asked to go.
func TestWorkspaceIsPreserved(t *testing.T) {
	r := newWorkspaceRig(t)
	r.opts.Preserve, r.opts.Outputs = true, outputsOf(t, "out/made", "out/tree", "elsewhere/made")
	first := dir{"changed": "1", "old.h": "h", "old.c": "c", "sub": dir{"old.c": "c"}, "elsewhere": link("/etc")}
	staged := r.stage(first)
	runAs(t, nobody, r.dir, "mkdir -p out/tree/x cache && echo o > out/made && echo o > out/tree/x/f && echo c > cache/c && rm changed && echo evil > changed && echo own > sub/own.c")
	must(t, staged.Remove())
	equalLines(t, snapshot(t, r.dir), []string{
		"cache drwxr-xr-x", "cache/c -rw-r--r-- c", "changed -rw-r--r-- evil", "elsewhere -> /etc",
		"old.c -r--r--r-- c", "old.h -r--r--r-- h", "out drwxr-xr-x", "sub drwxr-xr-x", "sub/old.c -r--r--r-- c", "sub/own.c -rw-r--r-- own",
	})
	r.opts.Clean = []string{"*.c"}
	must(t, r.stage(dir{"changed": "1", "cache": "a file"}).Remove())
	equalLines(t, snapshot(t, r.dir), []string{
		"cache -r--r--r-- a file", "changed -r--r--r-- 1", "elsewhere -> /etc",
		"old.h -r--r--r-- h", "out drwxr-xr-x", "sub drwxr-xr-x", "sub/own.c -rw-r--r-- own",
	})
	r.opts.Clean = []string{"*"}
	must(t, r.stage(dir{"changed": "1"}).Remove())
	if left := strings.Join(snapshot(t, r.dir), " "); strings.Contains(left, "old.h") || strings.Contains(left, "cache") || !strings.Contains(left, "sub/own.c") {
		t.Errorf("left: %s", left)
	}
}

// TestWorkspaceHolds: what need not be made again is counted, as far as that is quick.
func TestWorkspaceHolds(t *testing.T) {
	r := newWorkspaceRig(t)
	first := dir{"a": "1", "b": "2", "same": dir{"x": "x", "deep": dir{"y": "y"}}, "changed": dir{"x": "x", "z": "z"}}
	holds := func(d dir) int { return r.Holds(load(t, r.store, r.store.tree(t, d))) }
	if n := holds(first); n != 0 {
		t.Errorf("before the first input root: %d", n)
	}
	staged := r.stage(first)
	for name, tc := range map[string]struct {
		root dir
		want int
	}{
		"the same":         {first, 10}, // files and directories
		"nothing of it":    {dir{"c": "1"}, 0},
		"a part":           {dir{"a": "1", "b": "other", "same": first["same"], "changed": dir{"x": "x", "z": "other"}}, 6},
		"another kind":     {dir{"a": dir{"1": "1"}, "same": "a file"}, 0},
		"in another place": {dir{"same": dir{"deep": first["same"]}}, 0},
	} {
		if n := holds(tc.root); n != tc.want {
			t.Errorf("%s: %d, want %d", name, n, tc.want)
		}
	}
	must(t, staged.Remove())
	if n := holds(first); n != 10 {
		t.Errorf("after the action: %d, want 10: its inputs stay", n)
	}
}

// Symbolic links of an input root are never followed, whatever outputs are called.
func TestWorkspaceOutputsBehindLinks(t *testing.T) {
	r := newWorkspaceRig(t)
	r.opts.Preserve, r.opts.Outputs = true, outputsOf(t, "way/f")
	outside := publicDir(t)
	write(t, filepath.Join(outside, "f"), "precious", 0o644)
	staged := r.stage(dir{"a": "a"})
	must(t, os.Symlink(outside, filepath.Join(r.dir, "way")))
	must(t, staged.Remove())
	if _, err := os.Stat(filepath.Join(outside, "f")); err != nil {
		t.Error(err)
	}
}

// Files can be looked up, and listed with Bazel's mark of tools.
func TestGraphFiles(t *testing.T) {
	s := newStore()
	content := s.bytes(t, []byte("content"))
	mark := &repb.NodeProperties{Properties: []*repb.NodeProperty{{Name: "bazel_tool_input"}}}
	sub := s.message(t, &repb.Directory{Files: []*repb.FileNode{{Name: "t", Digest: content.Proto(), NodeProperties: mark}}})
	g := load(t, s, s.message(t, &repb.Directory{
		Files:       []*repb.FileNode{{Name: "f", Digest: content.Proto()}},
		Directories: []*repb.DirectoryNode{{Name: "a", Digest: sub.Proto()}, {Name: "b", Digest: sub.Proto()}},
	}))
	var got []tree.InputFile
	must(t, g.EachFile(func(f tree.InputFile) error { got = append(got, f); return nil }))
	want := []tree.InputFile{{Path: "f", Digest: content}, {Path: "a/t", Digest: content, Tool: true}, {Path: "b/t", Digest: content, Tool: true}}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	stop := errors.New("stop")
	if err := g.EachFile(func(tree.InputFile) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("got %v", err)
	}
	for p, there := range map[string]bool{"f": true, "a/t": true, "a": false, "a/u": false, "f/t": false, "c/t": false, "": false} {
		if d, ok := g.File(p); ok != there || ok && d != content {
			t.Errorf("%q: %v, %v", p, d, ok)
		}
	}
}
