package execution_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/reapi/execution"
	"github.com/hearth-build/hearth/reapi/execution/actionpb"
	"github.com/hearth-build/hearth/runners"
	"github.com/hearth-build/hearth/runners/runnertest"
)

// workerRig runs actions by real processes of the worker in testdata.
type workerRig struct {
	*rig
	pool  *runners.Pool
	props []string
}

func newWorkerRig(t *testing.T, props ...string) *workerRig {
	t.Helper()
	r := &workerRig{rig: newRig(t)}
	r.pool = r.onTheHost()
	r.props = append([]string{"persistent-workers=true", "persistentWorkerKey=k"}, props...)
	r.command.Arguments = []string{builtPrograms(t).worker, "@a"}
	return r
}

// does runs an action whose flag file has these lines.
func (r *workerRig) does(ctx context.Context, lines ...string) *execution.Outcome {
	r.t.Helper()
	if r.files == nil {
		r.files = map[string]string{}
	}
	r.files["a"] = strings.Join(lines, "\n") + "\n"
	r.action.Platform = platformOf(r.props...)
	r.action.CommandDigest, r.action.InputRootDigest = nil, nil
	return r.run(ctx)
}

// outcome of an action, as far as tests look at it.
type workOutcome struct {
	code   int32
	output string
	worker actionpb.Runner_Worker
	files  map[string]string
	note   string
}

// wants runs an action that must have a result.
func (r *workerRig) wants(lines ...string) workOutcome {
	r.t.Helper()
	out := r.does(r.t.Context(), lines...)
	if out.Err != nil {
		r.t.Fatalf("%q: %v", lines, out.Err)
	}
	got := workOutcome{code: out.Result.GetExitCode(), note: out.Message, files: map[string]string{}}
	report, _ := reports(r.t, out)
	got.worker = report.GetRunner().GetWorker()
	got.output = r.blob(out.Result.GetStderrDigest())
	for _, f := range out.Result.GetOutputFiles() {
		got.files[f.GetPath()] = r.blob(f.GetDigest())
	}
	return got
}

func (r *workerRig) blob(d *repb.Digest) string {
	r.t.Helper()
	if d == nil {
		return ""
	}
	digest, err := cas.FromProto(0, d)
	if err != nil {
		r.t.Fatal(err)
	}
	data, err := cas.ReadAll(r.t.Context(), r.instance.Store, digest, 1<<20)
	if err != nil {
		r.t.Fatal(err)
	}
	return string(data)
}

const (
	started = actionpb.Runner_STARTED
	kept    = actionpb.Runner_KEPT
	none    = actionpb.Runner_WORKER_UNSPECIFIED
)

// eachProtocol runs a test with both.
func eachProtocol(t *testing.T, test func(t *testing.T, props ...string)) {
	t.Helper()
	t.Run("proto", func(t *testing.T) { test(t, "persistentWorkerProtocol=proto") })
	t.Run("json", func(t *testing.T) { test(t, "persistentWorkerProtocol=json") })
}

func newProtocolRig(t *testing.T, props ...string) *workerRig {
	t.Helper()
	r := newWorkerRig(t, props...)
	if props[0] == "persistentWorkerProtocol=json" {
		r.command.Arguments = []string{r.command.GetArguments()[0], "--json", "@a"}
	}
	return r
}

// One worker runs one action after another, each with its own inputs at the same place
// and nothing else, and what it answers is the result. (Bazel's worker protocol.)
func TestWorkerRunsActions(t *testing.T) {
	eachProtocol(t, func(t *testing.T, props ...string) {
		r := newProtocolRig(t, props...)
		r.command.OutputPaths = []string{"out/made", "other"}
		r.files = map[string]string{"b": "first"}
		got := r.wants("count", "read b", "write out/made one", "write left x", "write other y", "child", "list")
		if got.code != 0 || got.output != "request 1\nfirst\na\nb\nleft\nother\nout\n" || got.worker != started ||
			got.files["out/made"] != "one" || got.files["other"] != "y" {
			t.Errorf("the first action: %+v", got)
		}
		r.files["b"] = "second"
		got = r.wants("count", "read b", "write out/made two", "list", "exit 3")
		if got.code != 3 || got.output != "request 2\nsecond\na\nb\nout\n" || got.worker != kept ||
			got.files["out/made"] != "two" || len(got.files) != 1 {
			t.Errorf("the second action: %+v", got)
		}
		if !strings.Contains(got.note, "runner hearth-") {
			t.Errorf("of the failed action is told %q", got.note)
		}
		delete(r.files, "b")
		got = r.wants("inputs")
		want := "a " + cas.SHA256.Sum([]byte("inputs\n")).Hash() + "\n"
		if got.output != want || got.worker != kept || got.note != "" {
			t.Errorf("inputs: %+v, want %q", got, want)
		}
		if n := len(r.pool.Snapshot()); n != 1 {
			t.Errorf("%d runners", n)
		}
	})
}

// Inputs that an action changed, and what it left, are as they should be for the next.
func TestWorkerActionsAreApart(t *testing.T) {
	r := newWorkerRig(t)
	r.files = map[string]string{"b": "input"}
	for i, want := range []actionpb.Runner_Worker{started, kept, kept} {
		got := r.wants("list", "read b", "remove b", "write b evil", "write c evil")
		if got.output != "a\nb\ninput\n" || got.worker != want {
			t.Errorf("action %d: %+v", i, got)
		}
	}
}

// What tells workers apart: the command's other arguments, its environment, and what
// Bazel marks as tools. What does not: flag files.
func TestWorkerOfAnotherKind(t *testing.T) {
	r := newWorkerRig(t)
	program := r.command.GetArguments()[0]
	for i, tc := range []struct {
		args []string
		env  string
		want actionpb.Runner_Worker
	}{
		{[]string{program, "@a"}, "", started},
		{[]string{program, "@a", "@a"}, "", kept},
		{[]string{program, "--x", "@a"}, "", started},
		{[]string{program, "--x", "@a"}, "1", started},
		{[]string{program, "--x", "@a"}, "1", kept},
	} {
		r.command.Arguments, r.command.EnvironmentVariables = tc.args, nil
		if tc.env != "" {
			r.command.EnvironmentVariables = []*repb.Command_EnvironmentVariable{{Name: "X", Value: tc.env}}
		}
		if got := r.wants("count"); got.worker != tc.want || got.code != 0 {
			t.Errorf("case %d: %+v", i, got)
		}
	}
	r.props = []string{"persistent-workers=true", "persistentWorkerKey=another"}
	if got := r.wants("count"); got.worker != started || len(r.pool.Snapshot()) != 2 {
		t.Errorf("with another key: %+v", got)
	}
}

// A tool that is another one is another worker, whatever the key says.
func TestWorkerOfOtherTools(t *testing.T) {
	r := newWorkerRig(t)
	mark := &repb.NodeProperties{Properties: []*repb.NodeProperty{{Name: "bazel_tool_input"}}}
	for i, tool := range []string{"one", "one", "two"} {
		flags, err := cas.PutBytes(t.Context(), r.instance.Store, cas.SHA256, []byte("read tool\n"))
		if err != nil {
			t.Fatal(err)
		}
		content, err := cas.PutBytes(t.Context(), r.instance.Store, cas.SHA256, []byte(tool))
		if err != nil {
			t.Fatal(err)
		}
		r.action.Platform = platformOf(r.props...)
		r.action.InputRootDigest = put(t, r.instance.Store, &repb.Directory{Files: []*repb.FileNode{
			{Name: "a", Digest: flags.Proto()}, {Name: "tool", Digest: content.Proto(), NodeProperties: mark},
		}}).Proto()
		out := r.run(t.Context())
		report, _ := reports(t, out)
		if want := []actionpb.Runner_Worker{started, kept, started}[i]; report.GetRunner().GetWorker() != want || out.Result.GetExitCode() != 0 {
			t.Errorf("action %d: %v, %v", i, report.GetRunner(), out)
		}
	}
}

// Without a key, without flag files, or with flag files that are none, a command is
// run as what it is.
func TestWorkerIsNotForAll(t *testing.T) {
	for name, change := range map[string]func(r *workerRig){
		"not wanted":    func(r *workerRig) { r.props = []string{"recycle-runner=true", "persistentWorkerKey=k"} },
		"no key":        func(r *workerRig) { r.props = []string{"recycle-runner=true", "persistent-workers=true"} },
		"no flag file":  func(r *workerRig) { r.command.Arguments[1] = "a" },
		"not an input":  func(r *workerRig) { r.command.Arguments = append(r.command.Arguments[:1], "@nowhere", "@a") },
		"its own label": func(r *workerRig) { r.command.Arguments[1] = "a" },
	} {
		t.Run(name, func(t *testing.T) {
			r := newWorkerRig(t)
			change(r)
			for range 2 {
				if got := r.wants("say plain", "exit 2"); got.code != 2 || got.output != "plain\n" || got.worker != none {
					t.Errorf("%+v", got)
				}
			}
		})
	}
}

// A worker and commands take turns in one runner; a command finds nothing running.
func TestWorkerGivesWayToCommands(t *testing.T) {
	r := newWorkerRig(t)
	program := r.command.GetArguments()[0]
	for range 2 {
		r.command.Arguments = []string{program, "@a"}
		if got := r.wants("count", "child"); got.worker != started || got.output != "request 1\n" {
			t.Errorf("%+v", got)
		}
		r.command.Arguments = []string{"/bin/sh", "-c", `! cat /proc/[0-9]*/comm | grep -E "^(worker|sleep)$"`}
		if got := r.wants("count"); got.worker != none || got.code != 0 {
			t.Errorf("%+v", got)
		}
	}
	if n := len(r.pool.Snapshot()); n != 1 {
		t.Errorf("%d runners", n)
	}
}

// A worker that dies or says what is no answer is started again once; then the command
// is run without it, and the person is told why, with the end of its log.
func TestWorkerFails(t *testing.T) {
	eachProtocol(t, func(t *testing.T, props ...string) {
		r := newProtocolRig(t, props...)
		r.command.OutputPaths = []string{"out"}
		r.wants("count")
		marks := runnertest.PublicDir(t)
		if err := os.Chmod(marks, 0o777); err != nil {
			t.Fatal(err)
		}
		got := r.wants("count", "list", "write out half", "write rest x", "die-once "+marks+"/mark", "write out whole")
		if got.code != 0 || got.output != "request 1\na\n" || got.worker != started || got.files["out"] != "whole" ||
			!strings.Contains(got.note, "was started again: it ended with exit code 7") {
			t.Errorf("died once: %+v", got)
		}
		got = r.wants("list", "write rest x", "log something is wrong", "die-as-worker", "write out plain")
		if got.code != 0 || got.worker != none || got.files["out"] != "plain" || got.output != "something is wrong\na\n" ||
			!strings.Contains(got.note, "failed 2 times") || !strings.Contains(got.note, "exit code 7") || !strings.Contains(got.note, "something is wrong") {
			t.Errorf("died twice: %+v", got)
		}
		// It is not tried again in this runner.
		if got := r.wants("say plain"); got.worker != none || got.code != 0 || got.note != "" {
			t.Errorf("afterwards: %+v", got)
		}
		if n := len(r.pool.Snapshot()); n != 1 {
			t.Errorf("%d runners", n)
		}
	})
}

func TestWorkerPrintsGarbage(t *testing.T) {
	for _, garbage := range []string{"Hello, world!", `{"exitCode": "no"}`, `{"exitCode": 0}{"exitCode": 0}`, `"text"`, "\x03\xff\xff\xff", "\x02\x18\x07"} {
		eachProtocol(t, func(t *testing.T, props ...string) {
			r := newProtocolRig(t, props...)
			got := r.wants("garbage "+garbage, "say done")
			// As a command it may print what it likes.
			if got.code != 0 || got.worker != none || !strings.Contains(got.note, "what it wrote to stdout is no answer") || got.output != "done\n" {
				t.Errorf("%q: %+v", garbage, got)
			}
		})
	}
}

// A timeout ends the worker and its runner, as it does with a command.
func TestWorkerTimesOut(t *testing.T) {
	r := newWorkerRig(t, "default-timeout=300ms")
	r.command.OutputPaths = []string{"out"}
	out := r.does(t.Context(), "write out half", "hang")
	if !errors.Is(out.Err, execution.ErrTimeout) || len(out.Result.GetOutputFiles()) != 1 {
		t.Errorf("%+v", out)
	}
	if got := r.wants("count"); got.worker != started || got.output != "request 1\n" {
		t.Errorf("the next action: %+v", got)
	}
	if runner := r.pool.Snapshot(); len(runner) != 1 || runner[0].Runs != 1 {
		t.Errorf("runners %+v", runner)
	}
}

// A worker that can be asked to give an action up goes on; any other is killed, and its
// runner goes with it.
func TestWorkerIsCancelled(t *testing.T) {
	eachProtocol(t, func(t *testing.T, props ...string) {
		for _, cancels := range []bool{true, false} {
			r := newProtocolRig(t, props...)
			if cancels {
				r.props = append(r.props, "supports-worker-cancellation=1")
			}
			r.wants("count")
			ctx, cancel := context.WithCancelCause(t.Context())
			gone := errors.New("the client is gone")
			done := make(chan *execution.Outcome, 1)
			began := filepath.Join(runnertest.PublicDir(t), "began")
			if err := os.WriteFile(began, nil, 0o666); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(began, 0o666); err != nil {
				t.Fatal(err)
			}
			go func() { done <- r.does(ctx, "write "+began+" x", "await-cancel") }()
			tick := time.NewTicker(5 * time.Millisecond)
			defer tick.Stop()
			for data := []byte(nil); len(data) == 0; <-tick.C {
				var err error
				if data, err = os.ReadFile(began); err != nil {
					t.Fatal(err)
				}
			}
			cancel(gone)
			if out := <-done; !errors.Is(out.Err, gone) {
				t.Errorf("cancelled: %+v", out)
			}
			got := r.wants("count")
			if cancels && (got.worker != kept || got.output != "request 3\n") || !cancels && got.output != "request 1\n" {
				t.Errorf("cancels %v: the next action: %+v", cancels, got)
			}
			if got := r.wants("cancelled"); got.worker != none || !strings.Contains(got.note, "cancelled") {
				t.Errorf("a worker that says so unasked: %+v", got)
			}
		}
	})
}
