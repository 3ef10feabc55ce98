package execution

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// Span is where in a client's trace a request belongs; the zero Span is nowhere.
type Span = trace.SpanContext

// tracing makes a span of each run.
type tracing struct {
	Executor
	tracer trace.Tracer
}

// WithTracing records each run as a span of the tracer, below the client's own,
// and in it a span for each phase. Of requests that share a run the first one's
// trace has it.
func WithTracing(base Executor, tracer trace.Tracer) Executor {
	return &tracing{Executor: base, tracer: tracer}
}

// Execute implements Executor.
func (e *tracing) Execute(ctx context.Context, t *Task, report Report) *Outcome {
	ctx, span := e.tracer.Start(trace.ContextWithRemoteSpanContext(ctx, t.Span), "execute action", trace.WithTimestamp(t.Timeline.Queued))
	defer span.End()
	if in := span.SpanContext(); in.HasTraceID() {
		t.trace = in.TraceID().String()
	}
	out := e.Executor.Execute(ctx, t, report)
	if !span.IsRecording() {
		return out
	}
	span.SetAttributes(spanAttributes(t, out)...)
	if out.Err != nil {
		span.SetStatus(codes.Error, cut(out.Err.Error(), maxTextBytes))
	}
	// They are known now; nothing is done for them while the action runs.
	for _, p := range t.Timeline.Phases() {
		_, phase := e.tracer.Start(ctx, p.Name, trace.WithTimestamp(p.Start))
		phase.End(trace.WithTimestamp(p.Start.Add(p.Duration)))
	}
	return out
}

func spanAttributes(t *Task, out *Outcome) []attribute.KeyValue {
	attrs := []attribute.KeyValue{
		attribute.String("hearth.action", t.ActionDigest.Name()),
		attribute.String("hearth.operation", t.Operation),
		attribute.String("hearth.instance", t.Instance.Name),
		attribute.Bool("hearth.cached", out.Cached),
	}
	text := func(name, value string) {
		if value != "" {
			attrs = append(attrs, attribute.String(name, value))
		}
	}
	text("hearth.tenant", t.Tenant)
	text("hearth.invocation", t.Invocation)
	text("hearth.mnemonic", t.Mnemonic)
	text("hearth.target", t.Target)
	if t.runner.RunnerID != "" {
		attrs = append(attrs, attribute.String("hearth.runner", t.runner.RunnerID), attribute.Bool("hearth.warm", t.runner.Warm))
		text("hearth.cold_because", t.runner.ColdReason)
	}
	if out.Err == nil {
		attrs = append(attrs, attribute.Int("hearth.exit_code", int(out.Result.GetExitCode())))
	}
	return attrs
}
