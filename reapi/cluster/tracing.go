package cluster

import (
	"context"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/hearth-build/hearth/reapi/execution"
)

// spanOf is where W3C trace context headers say that an action belongs.
func spanOf(headers map[string]string) execution.Span {
	return trace.SpanContextFromContext(propagation.TraceContext{}.Extract(context.Background(), propagation.MapCarrier(headers)))
}
