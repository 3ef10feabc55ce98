package execution_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/reapi/execution"
	"github.com/hearth-build/hearth/runners"
)

func contains(s, part string) bool { return strings.Contains(s, part) }

func propertyForTest() runners.Property {
	return runners.Property{Name: "container-image", Value: "docker://other"}
}

func noReport(repb.ExecutionStage_Value) {}

// REAPI E15, E16, F22, F23, F24, F28: what is looked up, and what is cached.
func TestCaching(t *testing.T) {
	failure := errors.New("broken")
	for _, tc := range []struct {
		name         string
		task         func(*execution.Task)
		cached       *repb.ActionResult
		outcome      *execution.Outcome
		runs, stored bool
	}{
		{name: "miss", outcome: exited(0), runs: true, stored: true},
		{name: "hit", cached: &repb.ActionResult{StdoutRaw: []byte("x")}},
		{name: "hit is skipped", cached: &repb.ActionResult{}, task: func(t *execution.Task) { t.SkipCacheLookup = true }, outcome: exited(0), runs: true, stored: true},
		{name: "cached failure", cached: &repb.ActionResult{ExitCode: 1}, outcome: exited(0), runs: true, stored: true},
		{name: "do_not_cache", cached: &repb.ActionResult{StdoutRaw: []byte("x")}, task: func(t *execution.Task) { t.Action.DoNotCache = true }, outcome: exited(0), runs: true},
		{name: "exit code 1", outcome: exited(1), runs: true},
		{name: "error with a result", outcome: &execution.Outcome{Result: &repb.ActionResult{}, Err: failure}, runs: true},
		{name: "error", outcome: &execution.Outcome{Err: failure}, runs: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			task := &execution.Task{Instance: newInstance(""), ActionDigest: cas.SHA256.Sum([]byte(tc.name)), Action: &repb.Action{}}
			if tc.task != nil {
				tc.task(task)
			}
			if tc.cached != nil {
				if err := task.Instance.Results.Put(t.Context(), task.ActionDigest, tc.cached); err != nil {
					t.Fatal(err)
				}
			}
			ran := false
			out := execution.WithCaching(executorFunc(func(context.Context, *execution.Task, execution.Report) *execution.Outcome {
				ran = true
				return tc.outcome
			})).Execute(t.Context(), task, noReport)
			if ran != tc.runs || out.Cached == tc.runs {
				t.Errorf("ran is %v, cached is %v", ran, out.Cached)
			}
			entry, err := task.Instance.Results.Get(t.Context(), task.ActionDigest)
			changed := err == nil && !proto.Equal(entry, tc.cached)
			if tc.cached == nil {
				changed = err == nil
			}
			if tc.stored != changed && !(tc.stored && proto.Equal(entry, tc.outcome.Result)) {
				t.Errorf("stored is %v (%v)", changed, entry)
			}
		})
	}
}

// REAPI F40: a lost runner is tried again, a bounded number of times.
func TestRetries(t *testing.T) {
	lost := fmt.Errorf("%w: it burst", runners.ErrLost)
	for _, tc := range []struct {
		name  string
		errs  []error
		calls int
		want  error
	}{
		{"no error", []error{nil}, 1, nil},
		{"lost once", []error{lost, nil}, 2, nil},
		{"lost for ever", []error{lost, lost, lost, lost}, 3, runners.ErrLost},
		{"another error", []error{runners.ErrImage, nil}, 1, runners.ErrImage},
	} {
		t.Run(tc.name, func(t *testing.T) {
			calls := 0
			out := execution.WithRetries(executorFunc(func(context.Context, *execution.Task, execution.Report) *execution.Outcome {
				calls++
				return &execution.Outcome{Err: tc.errs[calls-1]}
			}), 3).Execute(t.Context(), &execution.Task{}, noReport)
			if calls != tc.calls || !errors.Is(out.Err, tc.want) {
				t.Errorf("%d calls, %v", calls, out.Err)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	calls := 0
	execution.WithRetries(executorFunc(func(context.Context, *execution.Task, execution.Report) *execution.Outcome {
		calls++
		cancel()
		return &execution.Outcome{Err: lost}
	}), 3).Execute(ctx, &execution.Task{}, noReport)
	if calls != 1 {
		t.Errorf("a cancelled run was tried %d times", calls)
	}
}

// REAPI H1, H2, H4, H5, H9: all ten timestamps are set and in order, also for
// phases that were not reached.
func TestTiming(t *testing.T) {
	for _, tc := range []struct {
		name string
		mark func(*execution.Timeline)
	}{
		{"all phases", func(tl *execution.Timeline) {
			at := time.Now()
			for i, p := range []*time.Time{&tl.FetchStart, &tl.FetchCompleted, &tl.ExecutionStart, &tl.ExecutionCompleted, &tl.UploadStart, &tl.UploadCompleted} {
				*p = at.Add(time.Duration(i))
			}
			tl.Virtual = time.Second
		}},
		{"failed before the start", func(tl *execution.Timeline) { tl.FetchStart = time.Now() }},
		{"a clock that ran backwards", func(tl *execution.Timeline) {
			tl.FetchStart, tl.Virtual = tl.Queued.Add(-time.Hour), -time.Second
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			task := &execution.Task{Timeline: execution.Timeline{Queued: time.Now()}}
			out := execution.WithTiming(executorFunc(func(_ context.Context, task *execution.Task, _ execution.Report) *execution.Outcome {
				tc.mark(&task.Timeline)
				return exited(3)
			}), "here").Execute(t.Context(), task, noReport)
			md := out.Result.GetExecutionMetadata()
			stamps := []*timestamppb.Timestamp{
				md.GetQueuedTimestamp(), md.GetWorkerStartTimestamp(), md.GetInputFetchStartTimestamp(), md.GetInputFetchCompletedTimestamp(),
				md.GetExecutionStartTimestamp(), md.GetExecutionCompletedTimestamp(), md.GetOutputUploadStartTimestamp(),
				md.GetOutputUploadCompletedTimestamp(), md.GetWorkerCompletedTimestamp(),
			}
			for i, s := range stamps {
				if s == nil || i > 0 && s.AsTime().Before(stamps[i-1].AsTime()) {
					t.Errorf("timestamp %d is %v after %v", i, s, stamps[max(0, i-1)])
				}
			}
			if md.GetWorker() != "here" || md.GetVirtualExecutionDuration() == nil || md.GetVirtualExecutionDuration().AsDuration() < 0 {
				t.Errorf("worker %q, virtual duration %v", md.GetWorker(), md.GetVirtualExecutionDuration())
			}
		})
	}
}

// REAPI H8: a cached result keeps the metadata of its own run.
func TestTimingLeavesCachedResultsAlone(t *testing.T) {
	md := &repb.ExecutedActionMetadata{Worker: "another"}
	out := execution.WithTiming(executorFunc(func(context.Context, *execution.Task, execution.Report) *execution.Outcome {
		return &execution.Outcome{Cached: true, Result: &repb.ActionResult{ExecutionMetadata: md}}
	}), "here").Execute(t.Context(), &execution.Task{}, noReport)
	if out.Result.GetExecutionMetadata().GetWorker() != "another" {
		t.Errorf("metadata %v", out.Result.GetExecutionMetadata())
	}
}
