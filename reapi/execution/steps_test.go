package execution_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/reapi/execution"
	"github.com/hearth-build/hearth/runners"
	"github.com/hearth-build/hearth/runners/runnertest"
)

// task is the rig's action, ready to be executed.
func (r *rig) task() *execution.Task {
	r.t.Helper()
	r.action.CommandDigest = put(r.t, r.instance.Store, r.command).Proto()
	r.action.InputRootDigest = put(r.t, r.instance.Store, &repb.Directory{}).Proto()
	return &execution.Task{
		Instance: r.instance, Action: r.action, ActionDigest: cas.SHA256.Sum([]byte("action")),
		Timeline: execution.Timeline{Queued: time.Now()},
	}
}

// slow is a hook that makes some kinds of calls take a while.
func slow(d time.Duration, ops ...string) runnertest.Hook {
	return func(ctx context.Context, op, _ string) error {
		if slices.Contains(ops, op) {
			select {
			case <-time.After(d):
			case <-ctx.Done():
			}
		}
		return nil
	}
}

// REAPI F33, H4: a pull, the start of a container and the layout of inputs are
// phases of their own, which a timeout does not cover.
func TestTimeoutCoversTheCommandAlone(t *testing.T) {
	r := newRig(t)
	const timeout, each = 50 * time.Millisecond, 150 * time.Millisecond
	r.fake.SetHook(slow(each, runnertest.OpResolve, runnertest.OpStart))
	r.action.Timeout = durationpb.New(timeout)
	var got time.Duration
	r.program(func(_ string, p runnertest.Process) (runners.Result, error) {
		got = p.Timeout
		return runners.Result{Duration: time.Millisecond}, nil
	})
	task := r.task()
	var told []string
	out := execution.WithTiming(r.executor, "here").Execute(t.Context(), task, func(p execution.Progress) {
		told = append(told, fmt.Sprintf("%v %s", p.Step, p.Reason))
	})
	if out.Err != nil || got != timeout {
		t.Fatalf("%+v, timeout %v", out, got)
	}
	took := map[string]time.Duration{}
	var names []string
	for _, p := range task.Timeline.Phases() {
		took[p.Name] = p.Duration
		names = append(names, p.Name)
	}
	if fmt.Sprint(names) != "[check image runner inputs execution outputs]" || took["image"] < each || took["runner"] < each {
		t.Errorf("phases %v", took)
	}
	want := []string{"CHECK", "IMAGE looking for container image host", "RUNNER starting a container: first action", "INPUTS fetching the inputs", "EXECUTION", "OUTPUTS"}
	if !slices.EqualFunc(told, want, strings.HasPrefix) {
		t.Errorf("told %q", told)
	}
	md := out.Result.GetExecutionMetadata()
	if d := md.GetExecutionCompletedTimestamp().AsTime().Sub(md.GetExecutionStartTimestamp().AsTime()); d > each {
		t.Errorf("the execution took %v", d)
	}
	if d := md.GetInputFetchStartTimestamp().AsTime().Sub(md.GetWorkerStartTimestamp().AsTime()); d < 2*each {
		t.Errorf("the inputs were fetched %v after the worker's start", d)
	}
}

// A second action in the same runner waits for nothing, and is told nothing.
func TestWarmRunnerTakesNoSteps(t *testing.T) {
	r := newRig(t)
	r.program(func(string, runnertest.Process) (runners.Result, error) { return runners.Result{}, nil })
	for i, want := range []string{"[check image runner inputs execution outputs]", "[check inputs execution outputs]"} {
		task := r.task()
		if out := r.executor.Execute(t.Context(), task, noReport); out.Err != nil {
			t.Fatal(out.Err)
		}
		var names []string
		for _, p := range task.Timeline.Phases() {
			names = append(names, p.Name)
		}
		if fmt.Sprint(names) != want {
			t.Errorf("action %d: %v, want %s", i, names, want)
		}
	}
}

// REAPI F40: containers that do not start use up none of an action's attempts,
// and its command runs once.
func TestRunnersThatDoNotStart(t *testing.T) {
	r := newRig(t)
	var mu sync.Mutex
	starts := 0
	r.fake.SetHook(func(_ context.Context, op, _ string) error {
		mu.Lock()
		defer mu.Unlock()
		if op != runnertest.OpStart {
			return nil
		}
		if starts++; starts <= 3 {
			return errors.New("the engine is not there")
		}
		return nil
	})
	r.program(func(string, runnertest.Process) (runners.Result, error) { return runners.Result{ExitCode: 5}, nil })
	var reasons []string
	out := execution.WithRetries(r.executor, 1).Execute(t.Context(), r.task(), func(p execution.Progress) {
		if strings.Contains(p.Reason, "trying again") {
			reasons = append(reasons, p.Reason)
		}
	})
	if out.Err != nil || out.Result.GetExitCode() != 5 || r.fake.Count(runnertest.OpRun) != 1 {
		t.Errorf("%+v, the command ran %d times", out, r.fake.Count(runnertest.OpRun))
	}
	if len(reasons) != 3 || !strings.Contains(reasons[2], "trying again in 900ms: runner lost: start runner hearth-") || !strings.Contains(reasons[2], "the engine is not there") {
		t.Errorf("reasons %q", reasons)
	}
}
