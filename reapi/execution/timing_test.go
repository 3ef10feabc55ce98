package execution_test

import (
	"context"
	"os"
	"testing"
	"testing/synctest"
	"time"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/hearth-build/hearth/cas/tree"
	"github.com/hearth-build/hearth/reapi/execution"
	"github.com/hearth-build/hearth/runners"
	"github.com/hearth-build/hearth/runners/runnertest"
)

// REAPI H3, H8, F26: a run is queued when it is first asked for, and its worker
// starts when it is admitted. Who joins it, while it waits or later, resets
// neither, and gets the times of the run.
func TestJoiningKeepsTheTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		timed := execution.WithTiming(executorFunc(func(_ context.Context, task *execution.Task, report execution.Report) *execution.Outcome {
			for i, step := range []execution.Step{execution.StepCheck, execution.StepInputs, execution.StepExecution, execution.StepOutputs} {
				task.Enter(report, execution.Progress{Step: step})
				time.Sleep(time.Duration(1+i) * time.Second) // 10 s in all
			}
			return exited(0)
		}), "here")
		b := newBench(t, 1, execution.SchedulerOptions{}, timed.Execute)
		defer b.close()
		begin := time.Now()
		b.submit(b.request(salted(0))) // takes the slot
		synctest.Wait()
		var joined []*execution.Operation
		for _, at := range []time.Duration{time.Second, 4 * time.Second, 9 * time.Second, 15 * time.Second} {
			time.Sleep(at - time.Since(begin))
			op := b.submit(b.request(salted(1)))
			synctest.Wait()
			md, err := op.State().Metadata()
			if got := md.GetQueuedTimestamp().AsTime().Sub(begin); err != nil || got != time.Second {
				t.Errorf("who came after %v is told that it was queued after %v, %v", at, got, err)
			}
			joined = append(joined, op)
		}
		want := []time.Duration{1, 10, 11, 13, 13, 16, 16, 20, 20}
		for _, op := range joined {
			for i, stamp := range stamps(final(t, op).Result.GetExecutionMetadata()) {
				if got := stamp.AsTime().Sub(begin); got != want[i]*time.Second {
					t.Errorf("time %d is %v after the begin, want %d s", i, got, want[i])
				}
			}
		}
	})
}

// stamps are the times of a result in their order.
func stamps(md *repb.ExecutedActionMetadata) []*timestamppb.Timestamp {
	return []*timestamppb.Timestamp{
		md.GetQueuedTimestamp(), md.GetWorkerStartTimestamp(), md.GetInputFetchStartTimestamp(), md.GetInputFetchCompletedTimestamp(),
		md.GetExecutionStartTimestamp(), md.GetExecutionCompletedTimestamp(), md.GetOutputUploadStartTimestamp(),
		md.GetOutputUploadCompletedTimestamp(), md.GetWorkerCompletedTimestamp(),
	}
}

// removals is a Stager that notes when the input root was removed, and what was
// left of it.
type removals struct {
	tree.Stager
	root       string
	begin, end time.Time
	left       []string
}

func (s *removals) Stage(ctx context.Context, g *tree.Graph, dir string, opts tree.StageOptions) (tree.Staged, error) {
	staged, err := s.Stager.Stage(ctx, g, dir, opts)
	s.root = dir
	return removal{staged, s}, err
}

type removal struct {
	tree.Staged
	of *removals
}

func (s removal) Remove() error {
	s.of.begin = time.Now()
	err := s.Staged.Remove()
	s.of.left = nil
	entries, _ := os.ReadDir(s.of.root) // which may have gone, too
	for _, e := range entries {
		s.of.left = append(s.of.left, e.Name())
	}
	s.of.end = time.Now()
	return err
}

// REAPI H3: the outputs are uploaded when the last is stored; the worker has
// completed when the input root is removed, too.
func TestCleaningUpIsTimed(t *testing.T) {
	r := newRig(t)
	r.files = map[string]string{"a": "x"}
	r.command.OutputPaths = []string{"out"}
	watch := &removals{Stager: r.instance.Stager}
	r.instance.Stager = watch
	r.executor = execution.WithTiming(r.executor, "here")
	for name, result := range map[string]runners.Result{"done": {}, "failed": {ExitCode: 1}, "timed out": {TimedOut: true}} {
		r.program(func(root string, _ runnertest.Process) (runners.Result, error) {
			return result, os.WriteFile(root+"/out", []byte("x"), 0o644)
		})
		out := r.run(t.Context())
		if len(out.Result.GetOutputFiles()) != 1 || len(watch.left) > 0 {
			t.Fatalf("%s: %+v; the input root: %v", name, out, watch.left)
		}
		md := out.Result.GetExecutionMetadata()
		uploaded, completed := md.GetOutputUploadCompletedTimestamp().AsTime(), md.GetWorkerCompletedTimestamp().AsTime()
		if uploaded.After(watch.begin) || uploaded.Before(md.GetOutputUploadStartTimestamp().AsTime()) {
			t.Errorf("%s: uploaded %v after the removal began", name, uploaded.Sub(watch.begin))
		}
		if completed.Before(watch.end) {
			t.Errorf("%s: completed %v before the removal ended", name, watch.end.Sub(completed))
		}
	}
}
