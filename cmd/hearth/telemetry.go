package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// telemetryFlags say where traces and metrics are sent.
type telemetryFlags struct {
	OTLPEndpoint string `help:"Collector that takes traces and metrics by OTLP over gRPC, as http://HOST:PORT, or https:// for TLS. The variables OTEL_* count as well: OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_HEADERS, OTEL_TRACES_SAMPLER, OTEL_RESOURCE_ATTRIBUTES and so on." name:"otlp-endpoint" placeholder:"URL"`
}

func (c *telemetryFlags) validate() error {
	if c.OTLPEndpoint == "" {
		return nil
	}
	u, err := url.Parse(c.OTLPEndpoint)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return fmt.Errorf("--otlp-endpoint %s: it must be of the form http://HOST:PORT or https://HOST:PORT", c.OTLPEndpoint)
	}
	return nil
}

// wanted reports whether a flag or variable names a collector for a signal, TRACES
// or METRICS.
func (c *telemetryFlags) wanted(signal string) bool {
	return c.OTLPEndpoint != "" || os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || os.Getenv("OTEL_EXPORTER_OTLP_"+signal+"_ENDPOINT") != ""
}

// telemetry sends traces and metrics to a collector, if one is named.
type telemetry struct {
	traces  *sdktrace.TracerProvider // nil: none are made
	metrics []sdkmetric.Option       // for the provider of metrics
}

// open connects to the collector when there is something to send.
func (c *telemetryFlags) open(ctx context.Context, logger *slog.Logger) (*telemetry, error) {
	t := &telemetry{}
	if !c.wanted("TRACES") && !c.wanted("METRICS") {
		return t, nil
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { logger.Warn("telemetry is lost", "error", err) }))
	self, err := resource.New(ctx, resource.WithHost(), resource.WithAttributes(
		attribute.String("service.name", "hearth"), attribute.String("service.version", release()),
	), resource.WithFromEnv()) // which counts most
	if err != nil {
		return nil, fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	if c.wanted("TRACES") {
		var opts []otlptracegrpc.Option
		if c.OTLPEndpoint != "" {
			opts = append(opts, otlptracegrpc.WithEndpointURL(c.OTLPEndpoint))
		}
		exporter, err := otlptracegrpc.New(ctx, opts...)
		if err != nil {
			return nil, fmt.Errorf("export traces: %w", err)
		}
		t.traces = sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(self))
	}
	if c.wanted("METRICS") {
		var opts []otlpmetricgrpc.Option
		if c.OTLPEndpoint != "" {
			opts = append(opts, otlpmetricgrpc.WithEndpointURL(c.OTLPEndpoint))
		}
		exporter, err := otlpmetricgrpc.New(ctx, opts...)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("export metrics: %w", err), t.close())
		}
		t.metrics = []sdkmetric.Option{sdkmetric.WithReader(sdkmetric.NewPeriodicReader(exporter)), sdkmetric.WithResource(self)}
	}
	return t, nil
}

// scopeName is who the spans and metrics are from.
const scopeName = "github.com/hearth-build/hearth"

// tracer makes spans.
func (t *telemetry) tracer() trace.Tracer {
	if t.traces == nil {
		return noop.NewTracerProvider().Tracer(scopeName)
	}
	return t.traces.Tracer(scopeName)
}

// flushTimeout bounds how long the end of a server waits for a collector.
const flushTimeout = 5 * time.Second

// close sends the spans that are left.
func (t *telemetry) close() error {
	if t.traces == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
	defer cancel()
	return t.traces.Shutdown(ctx)
}
