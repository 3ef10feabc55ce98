package execution

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// tracing makes a span of each run.
type tracing struct {
	Executor
	tracer trace.Tracer
}

// WithTracing records each run as a span of the tracer.
func WithTracing(base Executor, tracer trace.Tracer) Executor {
	return &tracing{Executor: base, tracer: tracer}
}

// Execute implements Executor.
func (e *tracing) Execute(ctx context.Context, t *Task, report Report) *Outcome {
	ctx, span := e.tracer.Start(ctx, "execute action")
	defer span.End()
	out := e.Executor.Execute(ctx, t, report)
	if span.IsRecording() {
		span.SetAttributes(
			attribute.String("action.digest", t.ActionDigest.String()),
			attribute.String("instance", t.Instance.Name),
			attribute.Bool("cached", out.Cached),
			attribute.Int("exit_code", int(out.Result.GetExitCode())),
		)
		if out.Err != nil {
			span.SetStatus(codes.Error, out.Err.Error())
		}
	}
	return out
}
