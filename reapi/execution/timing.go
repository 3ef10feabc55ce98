package execution

import (
	"context"
	"time"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// timing puts the timeline into the metadata of every result, failed ones
// included.
type timing struct {
	Executor
	worker string
}

// WithTiming fills ExecutedActionMetadata; worker is this server's name in it.
func WithTiming(base Executor, worker string) Executor {
	return &timing{Executor: base, worker: worker}
}

// Execute implements Executor.
func (e *timing) Execute(ctx context.Context, t *Task, report Report) *Outcome {
	out := e.Executor.Execute(ctx, t, report)
	t.Timeline.Enter(StepCompleted, time.Now())
	if out.Result != nil && !out.Cached {
		md := out.Result.GetExecutionMetadata()
		if md == nil {
			md = &repb.ExecutedActionMetadata{}
			out.Result.ExecutionMetadata = md
		}
		md.Worker = e.worker
		md.VirtualExecutionDuration = durationpb.New(max(0, t.Timeline.Virtual))
		t.Timeline.stamp(md, true)
		t.Assigned.stamp(md)
	}
	return out
}

// stamp puts the times into md. Of a run that has ended, a phase that was never
// reached gets the time at which the one before it ended, so that the order
// always holds; of one that goes on, it gets none.
func (tl *Timeline) stamp(md *repb.ExecutedActionMetadata, ended bool) {
	at := tl.Queued
	stamp := func(t time.Time) *timestamppb.Timestamp {
		if t.IsZero() && !ended {
			return nil
		}
		if t.After(at) {
			at = t
		}
		return timestamppb.New(tl.steady(at))
	}
	fetchStart, fetchEnd := tl.last(StepInputs)
	runStart, runEnd := tl.last(StepExecution)
	uploadStart, uploadEnd := tl.last(StepOutputs)
	if !uploadStart.IsZero() && tl.Cleanup.After(uploadStart) {
		uploadEnd = tl.Cleanup
	}
	completed, _ := tl.last(StepCompleted)
	md.QueuedTimestamp = stamp(tl.Queued)
	md.WorkerStartTimestamp = stamp(tl.admitted())
	md.InputFetchStartTimestamp = stamp(fetchStart)
	md.InputFetchCompletedTimestamp = stamp(fetchEnd)
	md.ExecutionStartTimestamp = stamp(runStart)
	md.ExecutionCompletedTimestamp = stamp(runEnd)
	md.OutputUploadStartTimestamp = stamp(uploadStart)
	md.OutputUploadCompletedTimestamp = stamp(uploadEnd)
	md.WorkerCompletedTimestamp = stamp(completed)
}
