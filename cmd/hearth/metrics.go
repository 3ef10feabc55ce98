package main

import (
	"context"
	"maps"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel/attribute"
	prometheusexporter "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	sdk "go.opentelemetry.io/otel/sdk/metric"

	"github.com/hearth-build/hearth/reapi/execution"
	"github.com/hearth-build/hearth/runners"
)

// metrics count what a server does, for monitors.
type metrics struct {
	provider *sdk.MeterProvider
	// page is what Prometheus scrapes.
	page http.Handler

	actions metric.Int64Counter
	seconds metric.Float64Histogram
	phases  metric.Float64Histogram
}

// newMetrics makes the instruments for what is told of each action. With more
// options others than Prometheus read them as well.
func newMetrics(more ...sdk.Option) (*metrics, error) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	exporter, err := prometheusexporter.New(prometheusexporter.WithRegisterer(registry), prometheusexporter.WithoutScopeInfo(), prometheusexporter.WithoutTargetInfo())
	if err != nil {
		return nil, err
	}
	m := &metrics{
		provider: sdk.NewMeterProvider(append(more, sdk.WithReader(exporter))...),
		page:     promhttp.HandlerFor(registry, promhttp.HandlerOpts{}),
	}
	meter := m.meter()
	if m.actions, err = meter.Int64Counter("hearth.actions",
		metric.WithDescription("Actions that ended, by the status that the client got, whether the result came from the action cache, and how the action got its runner (warm, spare, cold or none) and if cold why.")); err != nil {
		return nil, err
	}
	// From a cached result to an hour-long test.
	bounds := metric.WithExplicitBucketBoundaries(.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 1800)
	if m.seconds, err = meter.Float64Histogram("hearth.action.duration", metric.WithUnit("s"), bounds,
		metric.WithDescription("How long actions took from the request to the result.")); err != nil {
		return nil, err
	}
	m.phases, err = meter.Float64Histogram("hearth.action.phase.duration", metric.WithUnit("s"), bounds,
		metric.WithDescription("How long actions were in each phase."))
	return m, err
}

func (m *metrics) meter() metric.Meter { return m.provider.Meter(scopeName) }

// observe is an execution.Observer.
func (m *metrics) observe(ctx context.Context, f *execution.Finished) {
	runner := attribute.String("runner", runnerWord(f.Runner))
	m.actions.Add(ctx, 1, metric.WithAttributes(
		attribute.String("status", f.Status), attribute.Bool("cached", f.Cached), runner, attribute.String("cold_because", f.Runner.ColdKind),
	))
	m.seconds.Record(ctx, f.Ended.Sub(f.Queued).Seconds(), metric.WithAttributes(attribute.Bool("cached", f.Cached), runner))
	for _, p := range f.Phases {
		m.phases.Record(ctx, p.Duration.Seconds(), metric.WithAttributes(attribute.String("phase", p.Name)))
	}
}

func runnerWord(r runners.LeaseInfo) string {
	switch {
	case r.RunnerID == "":
		return "none"
	case r.Warm:
		return "warm"
	case r.Spare:
		return "spare"
	default:
		return "cold"
	}
}

// record takes a number, and what it is of.
type record func(n int64, labels ...attribute.KeyValue)

// watch makes the instruments that look at the parts of a server when they are read.
func (m *metrics) watch(s *stack) error {
	for _, g := range []struct {
		name, help, unit string
		counter          bool
		read             func(record)
	}{
		{"hearth.queue.actions", "Actions that wait for a slot, or run.", "", false, s.measureQueue},
		{"hearth.worker.slots", "Slots of a worker in a cluster, those that have an action or none.", "", false, s.measureSlots},
		{"hearth.runners", "Containers by state.", "", false, s.measureRunners},
		{"hearth.runners.started", "Containers that were started.", "", true, func(put record) { put(int64(s.pool.Counts().Started)) }},
		{"hearth.runners.paused", "How often an idle container was paused.", "", true, func(put record) { put(int64(s.pool.Counts().Paused)) }},
		{"hearth.runners.ended", "Containers that ended, by how.", "", true, s.measureEnds},
		{"hearth.runners.memory", "What containers hold between actions, when that was last looked at.", "By", false, s.measureMemory},
		{"hearth.store.blobs", "Blobs in the store here.", "", false, func(put record) { put(int64(s.blobs.Stats().Blobs)) }},
		{"hearth.store.size", "What the blobs in the store here take on the disk.", "By", false, func(put record) { put(s.blobs.Stats().Bytes) }},
		{"hearth.store.limit", "What they may take.", "By", false, func(put record) { put(s.blobs.Stats().MaxBytes) }},
		{"hearth.audits", "Actions that were run again in a new container, by the outcome.", "", true, s.measureAudits},
	} {
		observe := func(_ context.Context, o metric.Int64Observer) error {
			g.read(func(n int64, labels ...attribute.KeyValue) { o.Observe(n, metric.WithAttributes(labels...)) })
			return nil
		}
		var err error
		if g.counter {
			_, err = m.meter().Int64ObservableCounter(g.name, metric.WithDescription(g.help), metric.WithUnit(g.unit), metric.WithInt64Callback(observe))
		} else {
			_, err = m.meter().Int64ObservableGauge(g.name, metric.WithDescription(g.help), metric.WithUnit(g.unit), metric.WithInt64Callback(observe))
		}
		if err != nil {
			return err
		}
	}
	_, err := m.meter().Float64ObservableGauge("hearth.busy.ratio",
		metric.WithDescription("Share in use of what there is least left of: CPUs, memory, containers or another resource."),
		metric.WithFloat64Callback(func(_ context.Context, o metric.Float64Observer) error {
			o.Observe(s.scheduler.Load().Busy)
			return nil
		}))
	return err
}

// measureSlots has nothing where actions come from clients.
func (s *stack) measureSlots(put record) {
	if s.worker == nil {
		return
	}
	busy, slots := s.worker.Busy()
	put(int64(busy), attribute.String("state", "busy"))
	put(int64(slots-busy), attribute.String("state", "idle"))
}

func (s *stack) measureQueue(put record) {
	load := s.scheduler.Load()
	put(int64(load.Queued), attribute.String("state", "queued"))
	put(int64(load.Running), attribute.String("state", "running"))
}

// measureRunners has all states, also those that no container is in.
func (s *stack) measureRunners(put record) {
	count := map[runners.State]int64{}
	for _, r := range s.pool.Snapshot() {
		count[r.State]++
	}
	for state := runners.Starting; state <= runners.Removed; state++ {
		put(count[state], attribute.String("state", state.String()))
	}
}

// measureEnds has all words, also those by which none ended: a rate needs a first value.
func (s *stack) measureEnds(put record) {
	ended := map[string]int{"evicted": 0, "expired": 0, "discarded": 0, "removed": 0, "retired": 0}
	maps.Copy(ended, s.pool.Counts().Ended)
	for how, n := range ended {
		put(int64(n), attribute.String("how", how))
	}
}

func (s *stack) measureMemory(put record) {
	var sum int64
	for _, r := range s.pool.Snapshot() {
		sum += r.Footprint.Memory
	}
	put(sum)
}

func (s *stack) measureAudits(put record) {
	if s.auditor == nil {
		return
	}
	counts, _ := s.auditor.Report()
	for outcome, n := range map[string]int{
		"same": counts.Same, "leak": counts.Leaks, "unsteady": counts.Unsteady, "failed": counts.Failed, "skipped": counts.Skipped,
	} {
		put(int64(n), attribute.String("outcome", outcome))
	}
}
