package execution_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/tree"
	"github.com/hearth-build/hearth/execserver/execpb"
	"github.com/hearth-build/hearth/reapi/execution"
	"github.com/hearth-build/hearth/runners"
	"github.com/hearth-build/hearth/runners/runnertest"
)

// rig runs actions on a pool of fake runners.
type rig struct {
	t        *testing.T
	fake     *runnertest.Fake
	pool     *runners.Pool
	instance *execution.Instance
	executor execution.Executor
	files    map[string]string // of the input root
	command  *repb.Command
	action   *repb.Action
	// overrides are properties from headers.
	overrides []runners.Property
}

func newRig(t *testing.T) *rig {
	t.Helper()
	fake := runnertest.NewFake()
	pool, err := runners.NewPool(fake, runners.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	instance := newInstance("")
	stager := tree.NewCopier(instance.Store, tree.CopierOptions{TrashDir: filepath.Join(t.TempDir(), "trash")})
	instance.Inputs = tree.NewKeeper(tree.NewLoader(instance.Store, tree.LoaderOptions{}), instance.Store, tree.KeeperOptions{})
	instance.Stager = stager
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := errors.Join(pool.Close(ctx), stager.Close()); err != nil {
			t.Error(err)
		}
		if v := fake.Violations(); len(v) > 0 {
			t.Errorf("the runners were misused: %v", v)
		}
		if live := fake.Live(); len(live) > 0 {
			t.Errorf("runners are left: %v", live)
		}
	})
	return &rig{
		t: t, fake: fake, pool: pool, instance: instance,
		executor: execution.NewAction(execution.ActionOptions{
			Pool: pool, DefaultTimeout: time.Hour, MaxTimeout: 2 * time.Hour, SpoolDir: t.TempDir(), MaxPrinted: 1 << 20,
		}),
		command: &repb.Command{Arguments: []string{"do"}},
		action:  &repb.Action{Platform: &repb.Platform{Properties: []*repb.Platform_Property{{Name: "recycle-runner", Value: "true"}}}},
	}
}

// program makes p what the action runs; it sees the input root's directory.
func (r *rig) program(p func(root string, p runnertest.Process) (runners.Result, error)) {
	r.fake.SetProgram(func(_ context.Context, proc runnertest.Process) (runners.Result, error) {
		return p(filepath.Join(proc.Dir, runners.WorkDirName, "root"), proc)
	})
}

// run stores what there is and executes it.
func (r *rig) run(ctx context.Context) *execution.Outcome {
	r.t.Helper()
	root := &repb.Directory{}
	for _, name := range []string{"a", "b"} {
		if data, ok := r.files[name]; ok {
			d, err := cas.PutBytes(ctx, r.instance.Store, cas.SHA256, []byte(data))
			if err != nil {
				r.t.Fatal(err)
			}
			root.Files = append(root.Files, &repb.FileNode{Name: name, Digest: d.Proto()})
		}
	}
	if r.action.CommandDigest == nil {
		r.action.CommandDigest = put(r.t, r.instance.Store, r.command).Proto()
	}
	if r.action.InputRootDigest == nil {
		r.action.InputRootDigest = put(r.t, r.instance.Store, root).Proto()
	}
	return r.executor.Execute(ctx, &execution.Task{
		Instance: r.instance, Action: r.action, ActionDigest: cas.SHA256.Sum([]byte("action")), Overrides: r.overrides,
		Timeline: execution.Timeline{Queued: time.Now()},
	}, noReport)
}

// REAPI G16-G20, G35, G50, F29, F52, F63, F66, H4, K20: inputs, environment and what is
// returned, also of a command that fails.
func TestAction(t *testing.T) {
	r := newRig(t)
	r.files = map[string]string{"a": "in a"}
	r.command.EnvironmentVariables = []*repb.Command_EnvironmentVariable{{Name: "X", Value: "1"}}
	r.command.OutputPaths = []string{"out/made", "out/not-made"}
	r.program(func(root string, p runnertest.Process) (runners.Result, error) {
		if data, err := os.ReadFile(filepath.Join(root, "a")); err != nil || string(data) != "in a" {
			t.Errorf("input %q, %v", data, err)
		}
		if got := fmt.Sprint(p.Env); got != "[X=1 PATH=/bin]" {
			t.Errorf("environment %s", got)
		}
		if p.Command.Dir != "/hearth/work/root" || p.UID != 65534 || p.Timeout != time.Hour {
			t.Errorf("command %+v", p.Command)
		}
		fmt.Fprint(p.Stderr, "hm")
		return runners.Result{ExitCode: 3, Duration: time.Second}, os.WriteFile(filepath.Join(root, "out/made"), []byte("x"), 0o755)
	})
	out := r.run(t.Context())
	if out.Err != nil || out.Result.GetExitCode() != 3 {
		t.Fatalf("%+v", out)
	}
	files := out.Result.GetOutputFiles()
	if len(files) != 1 || files[0].GetPath() != "out/made" || !files[0].GetIsExecutable() {
		t.Errorf("outputs %v", files)
	}
	if out.Result.GetStderrDigest() == nil || out.Result.GetStdoutDigest() != nil {
		t.Errorf("printed %v", out.Result)
	}
	if !strings.Contains(out.Message, "runner hearth-") || !strings.Contains(out.Message, "host") {
		t.Errorf("message %q", out.Message)
	}
	for _, d := range []*repb.Digest{files[0].GetDigest(), out.Result.GetStderrDigest()} {
		digest, err := cas.FromProto(0, d)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := cas.ReadAll(t.Context(), r.instance.Store, digest, 10); err != nil {
			t.Errorf("what the result names is not in the store: %v", err)
		}
	}
}

// Nothing of an action is there for the next one in the same runner (REAPI G16).
func TestActionLeavesNothingBehind(t *testing.T) {
	r := newRig(t)
	for i := range 3 {
		r.program(func(root string, _ runnertest.Process) (runners.Result, error) {
			entries, err := os.ReadDir(root)
			if err != nil || len(entries) > 0 {
				t.Errorf("run %d finds %v, %v", i, entries, err)
			}
			return runners.Result{}, os.WriteFile(filepath.Join(root, "left"), nil, 0o600)
		})
		if out := r.run(t.Context()); out.Err != nil {
			t.Fatal(out.Err)
		}
	}
	if n := r.fake.Count(runnertest.OpStart); n != 1 {
		t.Errorf("%d runners for one key", n)
	}
}

// REAPI F34, F53, F54: how a run ends decides what is said, and whether the
// runner is used again.
func TestActionEndings(t *testing.T) {
	boom := errors.New("connection reset")
	for _, tc := range []struct {
		name     string
		result   runners.Result
		err      error
		want     error
		exitCode int32
		message  string
		reused   bool
	}{
		{name: "success", reused: true},
		{name: "exit code", result: runners.Result{ExitCode: 1}, exitCode: 1, reused: true},
		{name: "signal", result: runners.Result{Signal: syscall.SIGSEGV}, exitCode: 139, message: "signal 11 (SIGSEGV)", reused: true},
		{name: "timeout", result: runners.Result{Signal: syscall.SIGKILL, TimedOut: true}, want: execution.ErrTimeout, exitCode: 137},
		{name: "not found", err: &runners.StartError{Reason: execpb.NotStarted_NOT_FOUND, Message: "no do"}, want: execution.ErrInvalid, reused: true},
		{name: "fault", err: &runners.StartError{Reason: execpb.NotStarted_FAULT}, want: runners.ErrLost},
		{name: "connection lost", err: boom, want: runners.ErrLost},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t)
			r.command.OutputPaths = []string{"out"}
			r.program(func(root string, _ runnertest.Process) (runners.Result, error) {
				return tc.result, errors.Join(os.WriteFile(filepath.Join(root, "out"), nil, 0o600), tc.err)
			})
			if tc.err != nil {
				r.program(func(string, runnertest.Process) (runners.Result, error) { return runners.Result{}, tc.err })
			}
			out := r.run(t.Context())
			if !errors.Is(out.Err, tc.want) || (out.Err == nil) != (tc.want == nil) {
				t.Errorf("error %v, want %v", out.Err, tc.want)
			}
			if tc.err == nil && (out.Result.GetExitCode() != tc.exitCode || len(out.Result.GetOutputFiles()) != 1) {
				t.Errorf("result %v", out.Result)
			}
			if !strings.Contains(out.Message, tc.message) {
				t.Errorf("message %q", out.Message)
			}
			r.program(func(string, runnertest.Process) (runners.Result, error) { return runners.Result{}, nil })
			if out := r.run(t.Context()); out.Err != nil {
				t.Fatal(out.Err)
			}
			if reused := r.fake.Count(runnertest.OpStart) == 1; reused != tc.reused {
				t.Errorf("reused is %v", reused)
			}
		})
	}
}

// REAPI F20: a cancelled run kills the command, and the runner is not used again.
func TestActionCancelled(t *testing.T) {
	r := newRig(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	var once sync.Once
	r.fake.SetProgram(func(ctx context.Context, _ runnertest.Process) (runners.Result, error) {
		once.Do(func() { cancel(execution.ErrCancelled) })
		<-ctx.Done()
		return runners.Result{}, context.Cause(ctx)
	})
	if out := r.run(ctx); !errors.Is(out.Err, execution.ErrCancelled) {
		t.Errorf("error %v", out.Err)
	}
}

// REAPI F31, F32, F36, F45-F48, G17, G22, G26: what is refused before a runner
// is started.
func TestActionRefuses(t *testing.T) {
	absent := cas.SHA256.Sum([]byte("absent"))
	garbage := []byte("\xff\xff")
	variable := func(name, value string) []*repb.Command_EnvironmentVariable {
		return []*repb.Command_EnvironmentVariable{{Name: name, Value: value}}
	}
	for _, tc := range []struct {
		name   string
		change func(*rig)
		want   error
	}{
		{"no command", func(r *rig) { r.action.CommandDigest = &repb.Digest{} }, execution.ErrInvalid},
		{"missing command", func(r *rig) { r.action.CommandDigest = absent.Proto() }, cas.ErrNotFound},
		{"missing root", func(r *rig) { r.action.InputRootDigest = absent.Proto() }, cas.ErrNotFound},
		{"missing file", func(r *rig) {
			r.action.InputRootDigest = put(r.t, r.instance.Store, &repb.Directory{Files: []*repb.FileNode{{Name: "f", Digest: absent.Proto()}}}).Proto()
		}, cas.ErrNotFound},
		{"garbled command", func(r *rig) {
			d, err := cas.PutBytes(r.t.Context(), r.instance.Store, cas.SHA256, garbage)
			if err != nil {
				r.t.Fatal(err)
			}
			r.action.CommandDigest = d.Proto()
		}, execution.ErrInvalid},
		{"no arguments", func(r *rig) { r.command.Arguments = nil }, execution.ErrInvalid},
		{"empty program", func(r *rig) { r.command.Arguments = []string{""} }, execution.ErrInvalid},
		{"NUL in an argument", func(r *rig) { r.command.Arguments = []string{"do", "a\x00b"} }, execution.ErrInvalid},
		{"empty variable", func(r *rig) { r.command.EnvironmentVariables = variable("", "x") }, execution.ErrInvalid},
		{"variable with =", func(r *rig) { r.command.EnvironmentVariables = variable("a=b", "x") }, execution.ErrInvalid},
		{"value with NUL", func(r *rig) { r.command.EnvironmentVariables = variable("a", "\x00") }, execution.ErrInvalid},
		{"variable twice", func(r *rig) { r.command.EnvironmentVariables = append(variable("a", "1"), variable("a", "2")...) }, execution.ErrInvalid},
		{"escaping output", func(r *rig) { r.command.OutputPaths = []string{"../x"} }, tree.ErrInvalid},
		{"timeout over the maximum", func(r *rig) { r.action.Timeout = durationpb.New(3 * time.Hour) }, execution.ErrInvalid},
		{"isolation", func(r *rig) {
			r.action.Platform.Properties = []*repb.Platform_Property{{Name: "workload-isolation-type", Value: "firecracker"}}
		}, runners.ErrPlatform},
		{"platform of the command", func(r *rig) {
			r.command.Platform, r.action.Platform = &repb.Platform{Properties: []*repb.Platform_Property{{Name: "OSFamily", Value: "plan9"}}}, nil
		}, runners.ErrPlatform},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t)
			tc.change(r)
			out := r.run(t.Context())
			if !errors.Is(out.Err, tc.want) || out.Result != nil {
				t.Errorf("%+v", out)
			}
			if n := r.fake.Count(runnertest.OpStart); n > 0 {
				t.Errorf("%d runners were started for it", n)
			}
		})
	}
}

// REAPI F45: all that is missing is reported at once.
func TestActionReportsAllMissing(t *testing.T) {
	r := newRig(t)
	one, two := cas.SHA256.Sum([]byte("one")), cas.SHA256.Sum([]byte("two"))
	r.action.CommandDigest = cas.SHA256.Sum([]byte("command")).Proto()
	r.action.InputRootDigest = put(t, r.instance.Store, &repb.Directory{
		Files:       []*repb.FileNode{{Name: "f", Digest: one.Proto()}},
		Directories: []*repb.DirectoryNode{{Name: "d", Digest: two.Proto()}},
	}).Proto()
	var missing *cas.MissingError
	if out := r.run(t.Context()); !errors.As(out.Err, &missing) || len(missing.Digests) < 2 {
		t.Errorf("%v", out.Err)
	}
}

// REAPI F64: a command that floods is stopped, and its runner not used again.
func TestActionPrintsTooMuch(t *testing.T) {
	r := newRig(t)
	r.program(func(_ string, p runnertest.Process) (runners.Result, error) {
		_, err := p.Stdout.Write(make([]byte, 2<<20))
		return runners.Result{}, err
	})
	if out := r.run(t.Context()); !errors.Is(out.Err, execution.ErrOutputLimit) {
		t.Errorf("%v", out.Err)
	}
}
