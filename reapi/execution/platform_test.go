package execution_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/reapi/execution"
	"github.com/hearth-build/hearth/runners"
	"github.com/hearth-build/hearth/runners/runnertest"
)

// images makes the rig note which images are looked for.
func (r *rig) images() *[]string {
	var names []string
	r.fake.SetHook(func(_ context.Context, op, id string) error {
		if op == runnertest.OpResolve {
			names = append(names, id)
		}
		return nil
	})
	return &names
}

// REAPI K21, F36: Bazel sends its properties in the Action and in the Command.
// Equal ones mean what the Action's alone mean; of unequal ones those of the
// Command have no say, nor are they mixed in.
func TestPlatformInBothMessages(t *testing.T) {
	for name, tc := range map[string]struct {
		action, command []string
		image           string
		as              []string // alone in the Action, they mean the same
	}{
		"equal": {
			action: []string{"Pool=default", "container-image=docker://a", "recycle-runner=true"}, command: []string{"Pool=default", "container-image=docker://a", "recycle-runner=true"},
			image: "a", as: []string{"container-image=docker://a", "recycle-runner=true"},
		},
		"in another order": {
			action: []string{"container-image=docker://a", "recycle-runner=true", "x=1"}, command: []string{"x=1", "recycle-runner=true", "container-image=docker://a"},
			image: "a", as: []string{"container-image=docker://a", "recycle-runner=true", "x=1"},
		},
		"of other values": {
			action: []string{"container-image=docker://a", "recycle-runner=true"}, command: []string{"container-image=docker://b", "network=bridge", "dockerRunAsRoot=true", "EstimatedCPU=1000"},
			image: "a", as: []string{"container-image=docker://a", "recycle-runner=true"},
		},
		"that no runner could take": {
			action: []string{"recycle-runner=true"}, command: []string{"OSFamily=plan9", "network=nonsense"},
			image: "host", as: []string{"recycle-runner=true"},
		},
		"in the Command alone": {
			command: []string{"container-image=docker://b", "recycle-runner=true"},
			image:   "b", as: []string{"container-image=docker://b", "recycle-runner=true"},
		},
	} {
		for _, matching := range []bool{true, false} { // which needs the platform early
			t.Run(fmt.Sprintf("%s, matching %v", name, matching), func(t *testing.T) {
				r := newRig(t)
				if matching {
					r.executor = execution.WithMatching(r.executor)
				}
				r.program(func(_ string, p runnertest.Process) (runners.Result, error) {
					if p.UID == 0 {
						t.Error("it ran as root")
					}
					return runners.Result{}, nil
				})
				images := r.images()
				r.runOn(tc.action, tc.command)
				if !slices.Equal(*images, []string{tc.image}) {
					t.Errorf("images %v, want %s", *images, tc.image)
				}
				r.runOn(tc.as, nil)
				if n := r.fake.Count(runnertest.OpStart); n != 1 {
					t.Errorf("%d runners, though %v means the same", n, tc.as)
				}
			})
		}
	}
}

// runOn runs the action with properties in the Action and in the Command.
func (r *rig) runOn(action, command []string) {
	r.t.Helper()
	r.action.Platform = platformOf(action...)
	r.command.Platform = platformOf(command...) //nolint:staticcheck // deprecated, and sent by the clients of today.
	if out := r.executor.Execute(r.t.Context(), r.task(), noReport); out.Err != nil {
		r.t.Fatal(out.Err)
	}
}

// REAPI K22, F39, G12: Bazel marks what could run in a persistent worker. Such an
// action is a command like any other: it gets the arguments that were sent, and a
// warm runner whatever its key is.
func TestPersistentWorkersRunAsCommands(t *testing.T) {
	r := newRig(t)
	r.executor = execution.WithMatching(r.executor)
	params, err := cas.PutBytes(t.Context(), r.instance.Store, cas.SHA256, []byte("-o\nFoo.jar\n"))
	if err != nil {
		t.Fatal(err)
	}
	r.action.InputRootDigest = put(t, r.instance.Store, &repb.Directory{Files: []*repb.FileNode{{
		Name: "Foo.params", Digest: params.Proto(),
		NodeProperties: &repb.NodeProperties{Properties: []*repb.NodeProperty{{Name: "bazel_tool_input"}}},
	}}}).Proto()
	r.command.Arguments = []string{"tools/javac", "--jvm_flag=-Xmx1g", "@Foo.params", "--flagfile=Foo.params"}
	ran := 0
	r.program(func(root string, p runnertest.Process) (runners.Result, error) {
		ran++
		if !slices.Equal(p.Args, r.command.GetArguments()) {
			t.Errorf("arguments %q", p.Args)
		}
		data, err := os.ReadFile(filepath.Join(root, "Foo.params"))
		if string(data) != "-o\nFoo.jar\n" {
			t.Errorf("input %q", data)
		}
		return runners.Result{}, err
	})
	const keys = 5
	for i := range keys {
		r.action.Platform = platformOf("recycle-runner=true", fmt.Sprintf("persistentWorkerKey=%064d", i),
			"persistentWorkerProtocol="+[]string{"", "proto", "json"}[i%3])
		if out := r.run(t.Context()); out.Err != nil || out.Result.GetExitCode() != 0 {
			t.Fatalf("key %d: %+v", i, out)
		}
	}
	if ran != keys {
		t.Errorf("%d runs for %d actions", ran, keys)
	}
	if n := r.fake.Count(runnertest.OpStart); n != 1 {
		t.Errorf("%d runners, though only properties without effect differ", n)
	}
}
