package execution_test

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/hearth-build/hearth/runners"
	"github.com/hearth-build/hearth/runners/runnertest"
)

// With preserve-workspace an action finds what the last one left, but for its outputs;
// its own inputs are as they should be; and inputs of the last one go if they are asked
// to. Another key finds nothing.
func TestActionsLeaveTheirWorkspace(t *testing.T) {
	r := newRig(t)
	r.files = map[string]string{"a": "in a", "b": "in b"}
	r.command.OutputPaths = []string{"out/made"}
	var found []string
	r.program(func(root string, _ runnertest.Process) (runners.Result, error) {
		found = nil
		for _, name := range []string{"a", "b", "cache", "out", "out/made"} {
			data, err := os.ReadFile(filepath.Join(root, name))
			switch {
			case err == nil:
				found = append(found, name+"="+string(data))
			case !errors.Is(err, os.ErrNotExist):
				found = append(found, name+"/")
			}
		}
		return runners.Result{}, errors.Join(
			os.WriteFile(filepath.Join(root, "cache"), []byte("left"), 0o600),
			os.WriteFile(filepath.Join(root, "out/made"), []byte("output"), 0o600),
			os.RemoveAll(filepath.Join(root, "a")),
			os.WriteFile(filepath.Join(root, "a"), []byte("changed"), 0o600),
		)
	})
	run := func(want []string, props ...string) {
		t.Helper()
		r.action.Platform = platformOf(append(props, "recycle-runner=true")...)
		r.action.CommandDigest, r.action.InputRootDigest = nil, nil
		if out := r.run(t.Context()); out.Err != nil || len(out.Result.GetOutputFiles()) != 1 {
			t.Fatalf("%+v", out)
		}
		if !slices.Equal(found, want) {
			t.Errorf("with %q an action finds %q, want %q", props, found, want)
		}
	}
	run([]string{"a=in a", "b=in b", "out/"}, "preserve-workspace=true", "clean-workspace-inputs=b*")
	run([]string{"a=in a", "b=in b", "cache=left", "out/"}, "preserve-workspace=true", "clean-workspace-inputs=b*")
	delete(r.files, "b")
	run([]string{"a=in a", "cache=left", "out/"}, "preserve-workspace=true", "clean-workspace-inputs=b*")
	run([]string{"a=in a", "out/"}, "preserve-workspace=true")
	run([]string{"a=in a", "out/"})
	run([]string{"a=in a", "out/"})
}

// TestActionFindsItsInputs: of two runners an action gets the one that has its inputs,
// whichever was used last.
func TestActionFindsItsInputs(t *testing.T) {
	r := newRig(t)
	r.action.Platform = platformOf("preserve-workspace=true", "recycle-runner=true")
	took := map[string]string{}
	var nested func()
	r.program(func(_ string, p runnertest.Process) (runners.Result, error) {
		took[r.files["a"]] = p.RunnerID
		if next := nested; next != nil {
			nested = nil
			next()
		}
		return runners.Result{}, nil
	})
	run := func(text string) {
		t.Helper()
		r.files, r.action.InputRootDigest = map[string]string{"a": text, "b": "in both"}, nil
		if out := r.run(t.Context()); out.Err != nil {
			t.Fatal(out.Err)
		}
	}
	nested = func() { run("second") } // while the first runs, so that it needs a runner of its own
	run("first")
	runner := maps.Clone(took)
	if len(runner) != 2 || runner["first"] == runner["second"] {
		t.Fatalf("two actions at a time ran in %v", runner)
	}
	for _, text := range []string{"second", "second", "first", "second", "first", "first"} {
		if run(text); took[text] != runner[text] {
			t.Errorf("the %s action ran in %s, want %s, which has its inputs", text, took[text], runner[text])
		}
	}
}

// Globs that are none are the client's mistake.
func TestCleanWorkspaceInputsRefused(t *testing.T) {
	r := newRig(t)
	r.action.Platform = platformOf("preserve-workspace=true", "clean-workspace-inputs=[")
	if out := r.run(t.Context()); !errors.Is(out.Err, runners.ErrPlatform) {
		t.Errorf("%+v", out)
	}
}
