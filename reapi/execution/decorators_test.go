package execution_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/protobuf/proto"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/reapi/execution"
	"github.com/hearth-build/hearth/runners"
)

func contains(s, part string) bool { return strings.Contains(s, part) }

func propertyForTest() runners.Property {
	return runners.Property{Name: "container-image", Value: "docker://other"}
}

func noReport(execution.Progress) {}

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

// try is what happens in one try to run an action.
type try struct {
	started bool // the command
	err     error
}

// REAPI F40, F58: a lost runner is tried again, a bounded number of times. One
// that was lost before the command ran in it does not use up the attempts.
func TestRetries(t *testing.T) {
	lost := fmt.Errorf("%w: it burst", runners.ErrLost)
	midway, early := try{true, lost}, try{false, lost}
	for _, tc := range []struct {
		name  string
		tries []try
		want  error
		told  string
		took  time.Duration
	}{
		{"no error", []try{{true, nil}}, nil, "", 0},
		{"lost once", []try{midway, {true, nil}}, nil, "", 0},
		{"lost for ever", []try{midway, midway, midway}, runners.ErrLost, "tried 3 times", 0},
		{"another error", []try{{true, runners.ErrImage}}, runners.ErrImage, "", 0},
		{"did not start", []try{early, early, early, early, {true, nil}}, nil, "", 4 * time.Second},
		{"never started", []try{early, early, early, early, early, early}, runners.ErrLost, "6 times to get a runner", 12100 * time.Millisecond},
		{"both", []try{early, midway, early, early, midway, early, {true, nil}}, nil, "", 4 * time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begin, calls := time.Now(), 0
				var reasons []string
				report := func(p execution.Progress) {
					if p.Reason != "" {
						reasons = append(reasons, p.Reason)
					}
				}
				out := execution.WithRetries(executorFunc(func(_ context.Context, task *execution.Task, report execution.Report) *execution.Outcome {
					calls++
					task.Enter(report, execution.Progress{Step: execution.StepCheck})
					if tc.tries[calls-1].started {
						task.Enter(report, execution.Progress{Step: execution.StepExecution})
					}
					return &execution.Outcome{Err: tc.tries[calls-1].err}
				}), 3).Execute(t.Context(), &execution.Task{}, report)
				if calls != len(tc.tries) || !errors.Is(out.Err, tc.want) || time.Since(begin) != tc.took {
					t.Errorf("%d calls in %v, %v", calls, time.Since(begin), out.Err)
				}
				if tc.told != "" && !contains(out.Err.Error(), tc.told) {
					t.Errorf("%v does not say %q", out.Err, tc.told)
				}
				if pauses := tc.took > 0; pauses != (len(reasons) > 0) || pauses && !contains(reasons[0], "trying again in 100ms: runner lost: it burst") {
					t.Errorf("the reasons are %q", reasons)
				}
			})
		})
	}
}

// A run that is cancelled is not tried again, nor does it wait for that.
func TestRetriesEndWithTheRun(t *testing.T) {
	gone := errors.New("its client is gone")
	for name, started := range map[string]bool{"while its command ran": true, "in a pause": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				begin, calls := time.Now(), 0
				out := execution.WithRetries(executorFunc(func(_ context.Context, task *execution.Task, report execution.Report) *execution.Outcome {
					calls++
					if started {
						task.Enter(report, execution.Progress{Step: execution.StepExecution})
						cancel(gone)
					} else {
						time.AfterFunc(50*time.Millisecond, func() { cancel(gone) })
					}
					return &execution.Outcome{Err: runners.ErrLost}
				}), 3).Execute(ctx, &execution.Task{}, noReport)
				if calls != 1 || time.Since(begin) > 50*time.Millisecond || out.Err == nil {
					t.Errorf("%d calls in %v, %v", calls, time.Since(begin), out.Err)
				}
			})
		})
	}
}

// REAPI H1, H2, H4-H6, H9: all ten timestamps are set and in order, also for
// phases that were not reached, and when time runs backwards.
func TestTiming(t *testing.T) {
	for _, tc := range []struct {
		name string
		mark func(*execution.Timeline)
	}{
		{"all phases", func(tl *execution.Timeline) {
			at := time.Now()
			for i, step := range []execution.Step{execution.StepQueued, execution.StepCheck, execution.StepRunner, execution.StepInputs, execution.StepExecution, execution.StepOutputs} {
				tl.Enter(step, at.Add(time.Duration(i)))
			}
			tl.Virtual = time.Second
		}},
		{"failed before the start", func(tl *execution.Timeline) { tl.Enter(execution.StepInputs, time.Now()) }},
		{"nothing was done", func(*execution.Timeline) {}},
		{"lost and tried again", func(tl *execution.Timeline) {
			for range 3 {
				tl.Enter(execution.StepCheck, time.Now())
				tl.Enter(execution.StepExecution, time.Now())
			}
			tl.Enter(execution.StepCheck, time.Now())
			tl.Enter(execution.StepInputs, time.Now())
		}},
		{"a clock that ran backwards", func(tl *execution.Timeline) {
			tl.Enter(execution.StepInputs, tl.Queued.Add(-time.Hour))
			tl.Virtual = -time.Second
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			task := &execution.Task{Timeline: execution.Timeline{Queued: time.Now()}}
			out := execution.WithTiming(executorFunc(func(_ context.Context, task *execution.Task, _ execution.Report) *execution.Outcome {
				tc.mark(&task.Timeline)
				return exited(3)
			}), "here").Execute(t.Context(), task, noReport)
			md := out.Result.GetExecutionMetadata()
			times := stamps(md)
			for i, s := range times {
				if s == nil || i > 0 && s.AsTime().Before(times[i-1].AsTime()) {
					t.Errorf("timestamp %d is %v after %v", i, s, times[max(0, i-1)])
				}
			}
			if md.GetWorker() != "here" || md.GetVirtualExecutionDuration() == nil || md.GetVirtualExecutionDuration().AsDuration() < 0 {
				t.Errorf("worker %q, virtual duration %v", md.GetWorker(), md.GetVirtualExecutionDuration())
			}
		})
	}
}

// REAPI H4, F33: each phase lasts until the next begins, only that of the
// command counts as execution, and what is repeated is told twice.
func TestPhases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		task := &execution.Task{Timeline: execution.Timeline{Queued: time.Now()}}
		steps := []execution.Step{
			execution.StepCacheLookup, execution.StepQueued, execution.StepCheck, execution.StepImage, execution.StepRunner,
			execution.StepRunner, execution.StepInputs, execution.StepExecution, execution.StepCheck, execution.StepInputs,
			execution.StepExecution, execution.StepOutputs,
		}
		out := execution.WithTiming(executorFunc(func(_ context.Context, task *execution.Task, report execution.Report) *execution.Outcome {
			for i, step := range steps {
				task.Enter(report, execution.Progress{Step: step})
				time.Sleep(time.Duration(i+1) * time.Second)
			}
			return exited(0)
		}), "here").Execute(t.Context(), task, noReport)
		time.Sleep(time.Hour) // after the end
		var told []string
		start := task.Timeline.Queued
		for _, p := range task.Timeline.Phases() {
			told = append(told, fmt.Sprintf("%s %v", p.Name, p.Duration))
			if !p.Start.Equal(start) {
				t.Errorf("%s began %v after the end of the phase before", p.Name, p.Start.Sub(start))
			}
			start = p.Start.Add(p.Duration)
		}
		want := "[cache_lookup 1s queued 2s check 3s image 4s runner 11s inputs 7s execution 8s check 9s inputs 10s execution 11s outputs 12s]"
		if got := fmt.Sprint(told); got != want {
			t.Errorf("phases\n%s, want\n%s", got, want)
		}
		md := out.Result.GetExecutionMetadata()
		if d := md.GetExecutionCompletedTimestamp().AsTime().Sub(md.GetExecutionStartTimestamp().AsTime()); d != 11*time.Second {
			t.Errorf("the execution took %v", d)
		}
		if d := md.GetWorkerStartTimestamp().AsTime().Sub(md.GetQueuedTimestamp().AsTime()); d != 3*time.Second {
			t.Errorf("the worker started after %v", d)
		}
	})
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
