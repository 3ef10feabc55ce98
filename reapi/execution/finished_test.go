package execution_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/protobuf/proto"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/reapi/execution"
	"github.com/hearth-build/hearth/runners"
	"github.com/hearth-build/hearth/runners/runnertest"
)

func statusOf(err error) string {
	if err == nil {
		return "OK"
	}
	return "BROKEN"
}

// observe puts what is observed of base into the list that it returns.
func observe(base execution.Executor) (execution.Executor, *[]*execution.Finished) {
	var all []*execution.Finished
	return execution.WithObservers(base, execution.Observation{
		StatusOf:  statusOf,
		Observers: []execution.Observer{func(_ context.Context, f *execution.Finished) { all = append(all, f) }},
	}), &all
}

// A run in a real pool: every fact of it is told, of the first run that started
// a runner and of the second that found it warm.
func TestObserverHearsOfRuns(t *testing.T) {
	r := newRig(t)
	r.command.Arguments = []string{"do", "this"}
	r.command.OutputPaths = []string{"out"}
	r.program(func(root string, p runnertest.Process) (runners.Result, error) {
		return runners.Result{ExitCode: 3}, os.WriteFile(filepath.Join(root, "out"), []byte("x"), 0o644)
	})
	var told *[]*execution.Finished
	r.executor, told = observe(execution.WithTiming(r.executor, "here"))
	out := r.run(t.Context())
	r.run(t.Context())
	if len(*told) != 2 {
		t.Fatalf("%d runs were told", len(*told))
	}
	first, second := (*told)[0], (*told)[1]
	if fmt.Sprint(first.Args) != "[do this]" || first.Status != "OK" || first.ExitCode != 3 || first.Cached || !first.Failed() {
		t.Errorf("%+v", first)
	}
	if first.Runner.RunnerID == "" || first.Runner.Warm || first.Runner.ColdReason == "" || first.Ended.Before(first.Queued) {
		t.Errorf("%+v", first)
	}
	if !second.Runner.Warm || second.Runner.RunnerID != first.Runner.RunnerID || second.Runner.Runs != 2 {
		t.Errorf("the second one had runner %+v", second.Runner)
	}
	var names []string
	for _, p := range first.Phases {
		names = append(names, p.Name)
		if p.Start.Before(first.Queued) || p.Duration < 0 {
			t.Errorf("phase %+v", p)
		}
	}
	if fmt.Sprint(names) != "[check image runner inputs execution outputs]" {
		t.Errorf("phases %v", names)
	}
	result := &repb.ActionResult{}
	if err := proto.Unmarshal(first.Result, result); err != nil || !proto.Equal(result, out.Result) || len(result.GetOutputFiles()) != 1 {
		t.Errorf("the result is %v (%v), want %v", result, err, out.Result)
	}
}

// What was not run is told as well: it came from the cache, or failed before.
func TestObserverHearsOfTheRest(t *testing.T) {
	instance := newInstance("")
	command := put(t, instance.Store, &repb.Command{Arguments: []string{"cc", "-c"}})
	task := func(action *repb.Action) *execution.Task {
		return &execution.Task{
			Instance: instance, ActionDigest: cas.SHA256.Sum([]byte("a")), Action: action,
			Invocation: "build", Mnemonic: "CppCompile", Target: "//a:b", Timeline: execution.Timeline{Queued: time.Now()},
		}
	}
	for _, tc := range []struct {
		name    string
		action  *repb.Action
		outcome *execution.Outcome
		want    string
		kept    bool
	}{
		{"cached", &repb.Action{CommandDigest: command.Proto()}, &execution.Outcome{Cached: true, Result: &repb.ActionResult{}}, "OK [cc -c]", false},
		{"cacheable", &repb.Action{CommandDigest: command.Proto()}, exited(0), "OK [cc -c]", false},
		{"do_not_cache", &repb.Action{DoNotCache: true}, &execution.Outcome{Result: &repb.ActionResult{StdoutRaw: []byte("x")}}, "OK []", true},
		{"failed", &repb.Action{CommandDigest: cas.SHA256.Sum([]byte("lost")).Proto()}, &execution.Outcome{Err: errors.New("hm"), Message: "why"}, "BROKEN []hmwhy", false},
		{"large", &repb.Action{}, &execution.Outcome{Result: &repb.ActionResult{ExitCode: 1, StdoutRaw: make([]byte, 2<<20)}}, "OK []", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			executor, told := observe(executorFunc(func(context.Context, *execution.Task, execution.Report) *execution.Outcome {
				return tc.outcome
			}))
			executor.Execute(t.Context(), task(tc.action), noReport)
			if len(*told) != 1 {
				t.Fatalf("%d runs were told", len(*told))
			}
			f := (*told)[0]
			if got := fmt.Sprint(f.Status, " ", f.Args, f.Error, f.Message); got != tc.want || (f.Result != nil) != tc.kept {
				t.Errorf("%s, result kept %v", got, f.Result != nil)
			}
			if f.Invocation != "build" || f.Mnemonic != "CppCompile" || f.Target != "//a:b" || f.Runner.RunnerID != "" {
				t.Errorf("%+v", f)
			}
		})
	}
}

// Results are told apart by what clients use of them, although they are not kept.
func TestFingerprints(t *testing.T) {
	file := func(name, text string) *repb.OutputFile {
		return &repb.OutputFile{Path: name, Digest: cas.SHA256.Sum([]byte(text)).Proto()}
	}
	of := func(r *repb.ActionResult) (outputs, printed string) {
		executor, told := observe(executorFunc(func(context.Context, *execution.Task, execution.Report) *execution.Outcome {
			return &execution.Outcome{Result: r}
		}))
		executor.Execute(t.Context(), &execution.Task{Instance: newInstance(""), ActionDigest: cas.SHA256.Sum(nil), Action: &repb.Action{}}, noReport)
		return (*told)[0].Outputs, (*told)[0].Printed
	}
	if outputs, printed := of(nil); outputs != "" || printed != "" {
		t.Errorf("without a result: %q, %q", outputs, printed)
	}
	outputs, printed := of(&repb.ActionResult{OutputFiles: []*repb.OutputFile{file("a", "1"), file("b", "2")}, StdoutDigest: file("", "said").Digest})
	for _, tc := range []struct {
		name                     string
		result                   *repb.ActionResult
		sameOutputs, samePrinted bool
	}{
		{"in another order", &repb.ActionResult{OutputFiles: []*repb.OutputFile{file("b", "2"), file("a", "1")}, StdoutDigest: file("", "said").Digest}, true, true},
		{"another file", &repb.ActionResult{OutputFiles: []*repb.OutputFile{file("a", "1"), file("b", "3")}, StdoutDigest: file("", "said").Digest}, false, true},
		{"another exit code", &repb.ActionResult{ExitCode: 1, OutputFiles: []*repb.OutputFile{file("a", "1"), file("b", "2")}, StdoutDigest: file("", "said").Digest}, false, true},
		{"to the other stream", &repb.ActionResult{OutputFiles: []*repb.OutputFile{file("a", "1"), file("b", "2")}, StderrDigest: file("", "said").Digest}, true, false},
		{"in the result itself", &repb.ActionResult{OutputFiles: []*repb.OutputFile{file("a", "1"), file("b", "2")}, StdoutRaw: []byte("else")}, true, false},
	} {
		o, p := of(tc.result)
		if (o == outputs) != tc.sameOutputs || (p == printed) != tc.samePrinted {
			t.Errorf("%s: %q, %q; before %q, %q", tc.name, o, p, outputs, printed)
		}
	}
}

// REAPI I1: whatever a client sends, little of it is kept.
func TestFinishedIsBounded(t *testing.T) {
	instance := newInstance("")
	long := strings.Repeat("x", 100<<10)
	for _, args := range [][]string{{long}, slices.Repeat([]string{"x"}, 100<<10), {"a", long, "b"}} {
		d := put(t, instance.Store, &repb.Command{Arguments: args})
		executor, told := observe(executorFunc(func(context.Context, *execution.Task, execution.Report) *execution.Outcome {
			return &execution.Outcome{Err: errors.New(long), Message: long}
		}))
		executor.Execute(t.Context(), &execution.Task{Instance: instance, ActionDigest: d, Action: &repb.Action{CommandDigest: d.Proto()}}, noReport)
		f := (*told)[0]
		if n := len(strings.Join(f.Args, " ")); n == 0 || n > 2000 || f.Args[0][0] != args[0][0] || !strings.HasSuffix(f.Args[len(f.Args)-1], "...") {
			t.Errorf("%d bytes of arguments are kept: %.60q", n, f.Args)
		}
		if len(f.Error) > 5000 || len(f.Message) > 5000 {
			t.Errorf("%d bytes of the error and %d of the message are kept", len(f.Error), len(f.Message))
		}
	}
}

func TestLogTo(t *testing.T) {
	at := time.Now()
	ran := &execution.Finished{
		Action: cas.SHA256.Sum([]byte("a")), Status: "OK", Queued: at, Ended: at.Add(2 * time.Second), Args: []string{"cc", "evil\nlevel=ERROR"},
		Phases: []execution.Phase{{Name: "inputs", Duration: time.Millisecond}}, Mnemonic: "Genrule", Target: "//a", Invocation: "i",
		Runner: runners.LeaseInfo{RunnerID: "r-1", Runs: 1, ColdReason: "first action of this key"},
	}
	failed := &execution.Finished{Action: ran.Action, Status: "UNAVAILABLE", Error: "lost"}
	cached := &execution.Finished{Action: ran.Action, Status: "OK", Cached: true}
	log := func(level slog.Level) string {
		var buf bytes.Buffer
		tell := execution.LogTo(slog.New(slog.NewTextHandler(&buf, &slog.HandlerOptions{Level: level})))
		for _, f := range []*execution.Finished{ran, failed, cached} {
			tell(t.Context(), f)
		}
		return buf.String()
	}
	lines := strings.Split(strings.TrimSpace(log(slog.LevelInfo)), "\n")
	if len(lines) != 2 { // REAPI I14: a client's newline makes no line
		t.Fatalf("the log is %q", lines)
	}
	for i, words := range []string{
		`msg="action finished" action=` + ran.Action.Name() + ` status=OK exit_code=0 took=2s inputs=1ms invocation=i mnemonic=Genrule target=//a runner=r-1 runs=1 cold="first action of this key" args="cc evil\nlevel=ERROR"`,
		`status=UNAVAILABLE error=lost`,
	} {
		if !strings.Contains(lines[i], words) {
			t.Errorf("line %d is %s, want %s in it", i, lines[i], words)
		}
	}
	if debug := log(slog.LevelDebug); !strings.Contains(debug, "cached=true") {
		t.Errorf("for debugging the log is %s", debug)
	}
}

func newHistory(t *testing.T, runs int) *execution.History {
	t.Helper()
	h, err := execution.NewHistory(runs)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestHistoryFinds(t *testing.T) {
	h := newHistory(t, 4)
	digests := make([]cas.Digest, 6)
	for i := range digests {
		digests[i] = cas.SHA256.Sum(fmt.Append(nil, i))
		f := &execution.Finished{Action: digests[i], Status: "OK", Invocation: fmt.Sprint("build ", i%2)}
		if i == 3 {
			f.ExitCode = 1
		}
		if i == 4 {
			f.Error = "broken"
		}
		h.Observe(t.Context(), f)
	}
	for _, tc := range []struct {
		filter execution.Filter
		want   []int
	}{
		{execution.Filter{}, []int{5, 4, 3, 2}},
		{execution.Filter{Limit: 2}, []int{5, 4}},
		{execution.Filter{Failed: true}, []int{4, 3}},
		{execution.Filter{Failed: true, Limit: 1}, []int{4}},
		{execution.Filter{Invocation: "build 1"}, []int{5, 3}},
		{execution.Filter{Action: digests[2].Hash()[:10]}, []int{2}},
		{execution.Filter{Action: digests[2].Name()}, []int{2}},
		{execution.Filter{Action: digests[2].Hash() + "/77"}, nil},
		{execution.Filter{Action: digests[0].Hash()}, nil}, // too long ago
	} {
		var got []int
		for _, f := range h.Find(tc.filter) {
			got = append(got, slices.Index(digests, f.Action))
		}
		if !slices.Equal(got, tc.want) {
			t.Errorf("%+v finds %v, want %v", tc.filter, got, tc.want)
		}
	}
}

// The history is bounded by its size as well, and by nothing if it is off.
func TestHistoryIsBounded(t *testing.T) {
	h, off := newHistory(t, 10_000), newHistory(t, 0)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 100 {
				f := &execution.Finished{Result: make([]byte, 1<<20)}
				h.Observe(t.Context(), f)
				off.Observe(t.Context(), f)
				h.Find(execution.Filter{Limit: 1})
			}
		})
	}
	wg.Wait()
	if n := len(h.Find(execution.Filter{})); n < 40 || n > 64 {
		t.Errorf("%d results of 1 MiB are kept", n)
	}
	if n := len(off.Find(execution.Filter{})); n != 0 {
		t.Errorf("a history of no runs has %d", n)
	}
	if _, err := execution.NewHistory(-1); err == nil {
		t.Error("a negative history is made")
	}
}
