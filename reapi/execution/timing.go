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
	t.Timeline.WorkerStart = time.Now()
	out := e.Executor.Execute(ctx, t, report)
	t.Timeline.WorkerCompleted = time.Now()
	if out.Result != nil && !out.Cached {
		out.Result.ExecutionMetadata = t.Timeline.metadata(e.worker, out.Result.GetExecutionMetadata())
	}
	return out
}

// metadata renders the timeline into md, which may be nil and may hold
// auxiliary metadata. A phase that was never reached gets the time at which
// the one before it ended, so that the order always holds. All times are the
// first one plus what the monotonic clock says, so that a step of the wall
// clock never makes a phase negative.
func (tl *Timeline) metadata(worker string, md *repb.ExecutedActionMetadata) *repb.ExecutedActionMetadata {
	if md == nil {
		md = &repb.ExecutedActionMetadata{}
	}
	at := tl.Queued
	stamp := func(t time.Time) *timestamppb.Timestamp {
		if t.After(at) {
			at = t
		}
		return timestamppb.New(tl.Queued.Add(at.Sub(tl.Queued)))
	}
	md.Worker = worker
	md.QueuedTimestamp = stamp(tl.Queued)
	md.WorkerStartTimestamp = stamp(tl.WorkerStart)
	md.InputFetchStartTimestamp = stamp(tl.FetchStart)
	md.InputFetchCompletedTimestamp = stamp(tl.FetchCompleted)
	md.ExecutionStartTimestamp = stamp(tl.ExecutionStart)
	md.ExecutionCompletedTimestamp = stamp(tl.ExecutionCompleted)
	md.OutputUploadStartTimestamp = stamp(tl.UploadStart)
	md.OutputUploadCompletedTimestamp = stamp(tl.UploadCompleted)
	md.WorkerCompletedTimestamp = stamp(tl.WorkerCompleted)
	md.VirtualExecutionDuration = durationpb.New(max(0, tl.Virtual))
	return md
}
