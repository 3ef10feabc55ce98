package execution_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/reapi/execution"
	"github.com/hearth-build/hearth/runners"
	"github.com/hearth-build/hearth/runners/runnertest"
)

// wantServerLog returns the text of the one log of an outcome.
func (r *rig) wantServerLog(out *execution.Outcome) string {
	r.t.Helper()
	if len(out.ServerLogs) != 1 {
		r.t.Fatalf("logs %v", out.ServerLogs)
	}
	name := slices.Collect(maps.Keys(out.ServerLogs))[0]
	log := out.ServerLogs[name]
	// Bazel makes a file of this name.
	if name == "" || strings.ContainsAny(name, "/\\ ") || strings.HasPrefix(name, ".") || !log.GetHumanReadable() {
		r.t.Errorf("log %q: %v", name, log)
	}
	d, err := cas.FromProto(0, log.GetDigest())
	if err != nil {
		r.t.Fatal(err)
	}
	data, err := cas.ReadAll(r.t.Context(), r.instance.Store, d, 1<<20)
	if err != nil {
		r.t.Fatal(err)
	}
	return string(data)
}

// REAPI F65, F66: an action that failed in a runner, or while it waited for one, has
// a log that tells what happened to it.
func TestServerLogOfFailures(t *testing.T) {
	for name, tc := range map[string]struct {
		result runners.Result
		err    error
		want   []string
	}{
		"exit code": {runners.Result{ExitCode: 3}, nil, []string{"exit code  3", "phase      execution    at +", "phase      outputs      at +", "message    It ran in container image host"}},
		"timeout":   {runners.Result{TimedOut: true}, nil, []string{"error", "after 1h0m0s"}},
		"lost":      {runners.Result{}, fmt.Errorf("connection reset"), []string{"connection reset", "tried 2 times"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.command.Arguments = []string{"do"}
			r.executor = execution.WithServerLogs(execution.WithCaching(execution.WithTiming(execution.WithRetries(r.executor, 2), "here")))
			r.program(func(string, runnertest.Process) (runners.Result, error) { return tc.result, tc.err })
			text := r.wantServerLog(r.run(t.Context()))
			for _, part := range append(tc.want, "action     "+cas.SHA256.Sum([]byte("action")).Name(), `command    ["do"]`, "runner     hearth-", "cold start", "phase      cache_lookup at +", "phase      runner       at +") {
				if !strings.Contains(text, part) {
					t.Errorf("it lacks %q:\n%s", part, text)
				}
			}
			if strings.HasSuffix(text, "\n\n") {
				t.Errorf("it ends with an empty line:\n%s", text)
			}
			wantRuns := 1
			if tc.err != nil {
				wantRuns = 2
			}
			if n := strings.Count(text, "phase      execution "); n != wantRuns {
				t.Errorf("%d executions are told:\n%s", n, text)
			}
		})
	}
}

// REAPI F65, F61: what succeeds, what comes from the cache, what never gets to a
// runner and what nobody waits for has no log, and one that cannot be stored changes
// nothing.
func TestNoServerLog(t *testing.T) {
	r := newRig(t)
	base := r.executor
	r.executor = execution.WithServerLogs(execution.WithCaching(base))
	exit := 0
	r.program(func(string, runnertest.Process) (runners.Result, error) { return runners.Result{ExitCode: exit}, nil })
	for _, cached := range []bool{false, true} {
		if out := r.run(t.Context()); out.Err != nil || out.Cached != cached || out.ServerLogs != nil {
			t.Errorf("success: %+v", out)
		}
	}
	exit = 1
	r.executor = execution.WithServerLogs(base)
	full := r.instance.Store
	r.instance.Store = failing{full, cas.ErrNoSpace}
	if out := r.run(t.Context()); out.Err != nil || out.Result.GetExitCode() != 1 || out.ServerLogs != nil || !strings.Contains(out.Message, "could not be stored") {
		t.Errorf("a full store: %+v", out)
	}
	r.instance.Store = full
	ctx, cancel := context.WithCancelCause(t.Context())
	cancelling := executorFunc(func(ctx context.Context, task *execution.Task, report execution.Report) *execution.Outcome {
		out := base.Execute(ctx, task, report)
		cancel(execution.ErrCancelled)
		return out
	})
	r.executor = execution.WithServerLogs(cancelling)
	if out := r.run(ctx); out.ServerLogs != nil {
		t.Errorf("cancelled: %+v", out)
	}
	r.executor = execution.WithServerLogs(base)
	r.action.InputRootDigest = cas.SHA256.Sum([]byte("absent")).Proto()
	if out := r.run(t.Context()); out.Err == nil || out.ServerLogs != nil {
		t.Errorf("missing inputs: %+v", out)
	}
	r.action.InputRootDigest = nil
	r.action.Platform = &repb.Platform{Properties: []*repb.Platform_Property{{Name: "OSFamily", Value: "plan9"}}}
	if out := r.run(t.Context()); out.Err == nil || out.ServerLogs != nil {
		t.Errorf("no runner: %+v", out)
	}
}
