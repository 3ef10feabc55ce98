package execution_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/hearth-build/hearth/reapi/execution"
)

// traced runs a task with a provider, and returns the spans.
func traced(t *testing.T, task *execution.Task, run executorFunc) tracetest.SpanStubs {
	t.Helper()
	exporter := tracetest.NewInMemoryExporter()
	provider := sdk.NewTracerProvider(sdk.WithSyncer(exporter))
	e := execution.WithTracing(run, provider.Tracer("test"))
	e.Execute(t.Context(), task, func(execution.Progress) {})
	return exporter.GetSpans()
}

// Each phase is a span of its own, at its times, below that of the run, which is
// below the client's.
func TestTracingMakesASpanOfEachPhase(t *testing.T) {
	at := time.Now().Add(-time.Minute)
	client := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, TraceFlags: trace.FlagsSampled, Remote: true})
	task := &execution.Task{Instance: &execution.Instance{Name: "i"}, Target: "//:x", Span: client, Timeline: execution.Timeline{Queued: at}}
	spans := traced(t, task, func(_ context.Context, task *execution.Task, _ execution.Report) *execution.Outcome {
		task.Timeline.Enter(execution.StepQueued, at)
		task.Timeline.Enter(execution.StepInputs, at.Add(time.Second))
		task.Timeline.Enter(execution.StepExecution, at.Add(3*time.Second))
		task.Timeline.Enter(execution.StepCompleted, at.Add(6*time.Second))
		return &execution.Outcome{Err: errors.New("it broke")}
	})
	if len(spans) != 4 {
		t.Fatalf("spans %v", spans)
	}
	run := spans[3]
	if run.Name != "execute action" || run.Parent.SpanID() != client.SpanID() || run.SpanContext.TraceID() != client.TraceID() || !run.StartTime.Equal(at) {
		t.Errorf("%+v", run)
	}
	if run.Status.Code != codes.Error || run.Status.Description != "it broke" {
		t.Errorf("status %v", run.Status)
	}
	attrs := attribute.NewSet(run.Attributes...)
	if v, ok := attrs.Value("hearth.target"); !ok || v.AsString() != "//:x" {
		t.Errorf("attributes %v", run.Attributes)
	}
	for i, want := range []struct {
		name       string
		start, end int
	}{{"queued", 0, 1}, {"inputs", 1, 3}, {"execution", 3, 6}} {
		got := spans[i]
		if got.Name != want.name || got.Parent.SpanID() != run.SpanContext.SpanID() ||
			!got.StartTime.Equal(at.Add(time.Duration(want.start)*time.Second)) || !got.EndTime.Equal(at.Add(time.Duration(want.end)*time.Second)) {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
}

// A client that samples its traces decides what is recorded here.
func TestTracingLeavesOutWhatTheClientDoes(t *testing.T) {
	client := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, Remote: true})
	task := &execution.Task{Instance: &execution.Instance{}, Span: client}
	spans := traced(t, task, func(context.Context, *execution.Task, execution.Report) *execution.Outcome {
		return &execution.Outcome{}
	})
	if len(spans) != 0 {
		t.Errorf("spans %v", spans)
	}
}

// Without a trace the run has one of its own.
func TestTracingBeginsATrace(t *testing.T) {
	spans := traced(t, &execution.Task{Instance: &execution.Instance{}}, func(context.Context, *execution.Task, execution.Report) *execution.Outcome {
		return &execution.Outcome{}
	})
	if len(spans) != 1 || spans[0].Parent.IsValid() || !spans[0].SpanContext.IsValid() {
		t.Errorf("spans %v", spans)
	}
}
