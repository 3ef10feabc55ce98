package execution_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"

	"github.com/hearth-build/hearth/cas/tree"
	"github.com/hearth-build/hearth/runners"
	"github.com/hearth-build/hearth/runners/runnertest"
)

// mountInputs makes the rig mount its input roots.
func (r *rig) mountInputs() {
	r.t.Helper()
	m, err := tree.NewMounter(r.instance.Store, tree.MounterOptions{Dir: filepath.Join(r.t.TempDir(), "roots"), CopyNodes: -1})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		if err := m.Close(); err != nil {
			r.t.Error(err)
		}
	})
	r.instance.Stager = m
}

// The client hears which inputs an action changed, but for outputs, and the next
// action does not see it.
func TestActionChangesInputs(t *testing.T) {
	r := newRig(t)
	r.mountInputs()
	r.files = map[string]string{"a": "in a", "b": "in b"}
	r.command.OutputPaths = []string{"b"}
	r.program(func(root string, _ runnertest.Process) (runners.Result, error) {
		for _, name := range []string{"a", "b"} {
			data, err := os.ReadFile(filepath.Join(root, name))
			if err != nil || string(data) != "in "+name {
				t.Errorf("%s has %q, %v", name, data, err)
			}
		}
		return runners.Result{}, errors.Join(os.Remove(filepath.Join(root, "a")), os.WriteFile(filepath.Join(root, "b"), []byte("changed"), 0o644))
	})
	for range 2 {
		out := r.run(t.Context())
		if out.Err != nil || !strings.Contains(out.Message, `changed some of its inputs, which has no effect on others: "a".`) {
			t.Errorf("%v, %q", out.Err, out.Message)
		}
		if f := out.Result.GetOutputFiles(); len(f) != 1 || f[0].Digest.SizeBytes != int64(len("changed")) {
			t.Errorf("outputs: %v", f)
		}
	}
}

// Whose the files are, and whether they can be written to, depends on who runs
// and on what was asked for.
func TestActionWritableInputs(t *testing.T) {
	for property, want := range map[string]fs.FileMode{"recycle-runner": 0o444, "writable-inputs": 0o644, "dockerRunAsRoot": 0o644} {
		for _, mounted := range []bool{true, false} {
			r := newRig(t)
			if mounted {
				r.mountInputs()
			}
			r.files = map[string]string{"a": "in a"}
			r.action.Platform.Properties = []*repb.Platform_Property{{Name: property, Value: "true"}}
			r.program(func(root string, _ runnertest.Process) (runners.Result, error) {
				info, err := os.Stat(filepath.Join(root, "a"))
				if err == nil && info.Mode() != want {
					t.Errorf("%s, mounted %v: mode %v, want %v", property, mounted, info.Mode(), want)
				}
				return runners.Result{}, err
			})
			if out := r.run(t.Context()); out.Err != nil {
				t.Error(out.Err)
			}
		}
	}
}
