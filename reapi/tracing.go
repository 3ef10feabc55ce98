package reapi

import (
	"context"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/metadata"

	"github.com/hearth-build/hearth/reapi/execution"
)

// spanOf is where in a trace the caller is, if it says so by the headers of the
// W3C: bazel --remote_header=traceparent=00-TRACE-SPAN-01.
func spanOf(ctx context.Context) execution.Span {
	md, _ := metadata.FromIncomingContext(ctx)
	return trace.SpanContextFromContext(propagation.TraceContext{}.Extract(context.Background(), headers(md)))
}

// headers are a call's, where the propagator looks for what it knows.
type headers metadata.MD

// Get implements propagation.TextMapCarrier.
func (h headers) Get(key string) string {
	if values := metadata.MD(h).Get(key); len(values) > 0 {
		return values[0]
	}
	return ""
}

// Set implements propagation.TextMapCarrier.
func (h headers) Set(key, value string) { metadata.MD(h).Set(key, value) }

// Keys implements propagation.TextMapCarrier.
func (h headers) Keys() []string {
	var keys []string
	for key := range h {
		keys = append(keys, key)
	}
	return keys
}
