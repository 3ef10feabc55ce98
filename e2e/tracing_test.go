package e2e_test

import (
	"context"
	"encoding/hex"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	metrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	traces "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// collector takes what servers send by OTLP.
type collector struct {
	traces.UnimplementedTraceServiceServer
	address string

	mu      sync.Mutex // guards what follows
	spans   []*tracev1.Span
	service string          // by the last resource
	metrics map[string]bool // names that came
}

// metricsReceiver is the collector's other service.
type metricsReceiver struct {
	metrics.UnimplementedMetricsServiceServer
	*collector
}

func startCollector(t *testing.T) *collector {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &collector{address: listener.Addr().String(), metrics: map[string]bool{}}
	server := grpc.NewServer()
	traces.RegisterTraceServiceServer(server, c)
	metrics.RegisterMetricsServiceServer(server, metricsReceiver{collector: c})
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return c
}

// Export implements traces.TraceServiceServer.
func (c *collector) Export(_ context.Context, req *traces.ExportTraceServiceRequest) (*traces.ExportTraceServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, resource := range req.GetResourceSpans() {
		for _, attr := range resource.GetResource().GetAttributes() {
			if attr.GetKey() == "service.name" {
				c.service = attr.GetValue().GetStringValue()
			}
		}
		for _, scope := range resource.GetScopeSpans() {
			c.spans = append(c.spans, scope.GetSpans()...)
		}
	}
	return &traces.ExportTraceServiceResponse{}, nil
}

// Export implements metrics.MetricsServiceServer.
func (c metricsReceiver) Export(_ context.Context, req *metrics.ExportMetricsServiceRequest) (*metrics.ExportMetricsServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, resource := range req.GetResourceMetrics() {
		for _, scope := range resource.GetScopeMetrics() {
			for _, m := range scope.GetMetrics() {
				c.collector.metrics[m.GetName()] = true
			}
		}
	}
	return &metrics.ExportMetricsServiceResponse{}, nil
}

// inTrace are the spans of a trace, by their names.
func (c *collector) inTrace(id string) map[string]*tracev1.Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	found := map[string]*tracev1.Span{}
	for _, span := range c.spans {
		if hex.EncodeToString(span.GetTraceId()) == id {
			found[span.GetName()] = span
		}
	}
	return found
}

// A server sends the spans of each action, in the trace of its client, and its
// metrics to a collector.
func TestTelemetryIsSent(t *testing.T) {
	c := startCollector(t)
	h := startHearthWith(t, "/", recycling, "--otlp-endpoint=http://"+c.address)
	client := newCaller(t, h)
	const trace, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	action := client.message(&repb.Action{
		CommandDigest: client.message(&repb.Command{Arguments: []string{"/bin/true"}}), InputRootDigest: client.tree(nil),
	})
	stream, err := repb.NewExecutionClient(client.conn).Execute(
		metadata.AppendToOutgoingContext(t.Context(), "traceparent", "00-"+trace+"-"+parent+"-01"), &repb.ExecuteRequest{ActionDigest: action})
	if err != nil {
		t.Fatal(err)
	}
	for done := false; !done; {
		op, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		done = op.GetDone()
	}
	h.stop(t) // which sends what is left
	spans := c.inTrace(trace)
	root := spans["execute action"]
	if root == nil || hex.EncodeToString(root.GetParentSpanId()) != parent {
		t.Fatalf("the spans %v have none of the action below the client's", spans)
	}
	for _, phase := range []string{"cache_lookup", "check", "runner", "inputs", "execution", "outputs"} {
		span := spans[phase]
		if span == nil || string(span.GetParentSpanId()) != string(root.GetSpanId()) ||
			span.GetStartTimeUnixNano() < root.GetStartTimeUnixNano() || span.GetEndTimeUnixNano() > root.GetEndTimeUnixNano() {
			t.Errorf("the phase %s has the span %v in %v", phase, span, root)
		}
	}
	if !slices.ContainsFunc(strings.Split(h.logged(), "\n"), func(line string) bool {
		return strings.Contains(line, "action finished") && strings.Contains(line, "trace="+trace)
	}) {
		t.Errorf("no line of the log names the trace:\n%s", h.logged())
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.service != "hearth" || !c.metrics["hearth.actions"] || !c.metrics["hearth.runners"] {
		t.Errorf("service %q, metrics %v", c.service, c.metrics)
	}
}

// A collector that is not there harms nobody, and the log says what is lost.
func TestCollectorIsAway(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	h := startHearthWith(t, "/", recycling, "--otlp-endpoint=http://"+address)
	client := newCaller(t, h)
	client.run(client.tree(nil), nil, "true")
	h.stop(t)
	if !strings.Contains(h.logged(), "telemetry") && !strings.Contains(h.logged(), "closing what was open") {
		t.Errorf("the log says nothing of it:\n%s", h.logged())
	}
}
