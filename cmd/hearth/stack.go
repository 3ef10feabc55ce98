package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/hearth-build/hearth/cas/actioncache"
	"github.com/hearth-build/hearth/cas/disk"
	"github.com/hearth-build/hearth/cas/tree"
	"github.com/hearth-build/hearth/reapi"
	"github.com/hearth-build/hearth/reapi/console"
	"github.com/hearth-build/hearth/reapi/execution"
	"github.com/hearth-build/hearth/runners"
)

// stack is everything that serves, in the order in which it is built; stop
// goes through it backwards.
type stack struct {
	started   time.Time
	endpoint  string
	guard     *guard
	blobs     *disk.Disk
	backing   *backing
	inputs    *inputRoots
	backend   *lateBackend
	pool      *runners.Pool
	history   *execution.History
	telemetry *telemetry
	metrics   *metrics
	auditor   *execution.Auditor // nil without --audit-rate
	scheduler *execution.Scheduler
	worker    clusterWorker // nil where actions come from clients
	assets    *assets
	instances console.Instances // those that are open
	server    *reapi.Server
}

func (c *serveCmd) newStack(ctx context.Context, logger *slog.Logger, endpoint string) (*stack, error) {
	s := &stack{started: time.Now(), endpoint: endpoint}
	err := c.build(ctx, logger, s)
	if err != nil {
		s.close(logger)
		return nil, err
	}
	return s, nil
}

// build opens the parts, those that others need first.
func (c *serveCmd) build(ctx context.Context, logger *slog.Logger, s *stack) error {
	dirs, err := makeDirs(c.DataDir, "runners", "spool")
	if err != nil {
		return err
	}
	if s.guard, err = c.Guard.open(&c.Listening, logger); err != nil {
		return err
	}
	if s.telemetry, err = c.Telemetry.open(ctx, logger); err != nil {
		return err
	}
	if s.metrics, err = newMetrics(s.telemetry.metrics...); err != nil {
		return err
	}
	if err := c.openStores(ctx, s, dirs["spool"], logger); err != nil {
		return err
	}
	if s.backing, err = c.Backing.open(logger, nil); err != nil {
		return err
	}
	if err := c.openPool(ctx, s, dirs["runners"], logger); err != nil {
		return err
	}
	if err := c.openScheduler(s, dirs["spool"], logger); err != nil {
		return err
	}
	if s.assets, err = c.Assets.open(c.DataDir, actioncache.NewDisk(s.blobs, "assets")); err != nil {
		return err
	}
	tenants := newTenants(func(tenant string) (reapi.Instances, error) { return c.openInstances(ctx, s, tenant) })
	instances, err := tenants.open("")
	if err != nil {
		return err
	}
	s.instances = tenants
	options := []reapi.Option{reapi.WithAccess(s.guard.who, tenants.open), reapi.WithAssets(s.assets.of), reapi.WithLogger(logger)}
	if s.guard.tls != nil {
		options = append(options, reapi.WithTLS(s.guard.tls))
	}
	if s.server, err = reapi.NewServer(instances, s.scheduler, options...); err != nil {
		return err
	}
	return s.metrics.watch(s)
}

// openStores opens the stores, and removes what an earlier hearth left beside them.
func (c *machineFlags) openStores(ctx context.Context, s *stack, spool string, logger *slog.Logger) (err error) {
	s.inputs = &inputRoots{dataDir: c.DataDir, logger: logger}
	s.blobs, err = disk.Open(ctx, disk.Options{
		Dir: filepath.Join(c.DataDir, "store"), MaxBytes: int64(c.MaxBytes), Logger: logger,
		OnDrop: func(drop disk.Drop) {
			logger.Warn("something damaged was dropped from the store; the next upload heals it", "what", drop.String())
			s.inputs.forget()
		},
	})
	if err != nil {
		return err
	}
	if err := s.inputs.prepare(c.InputRoots, s.blobs.Stats().MaxBytes); err != nil {
		return err
	}
	if err := errors.Join(emptyDir(spool), tree.SweepTrash(filepath.Join(c.DataDir, "trash"))); err != nil {
		return fmt.Errorf("remove what an earlier hearth left: %w", err)
	}
	return nil
}

// openPool opens podman, if it is there by now, and the pool of its runners.
func (c *machineFlags) openPool(ctx context.Context, s *stack, dir string, logger *slog.Logger) (err error) {
	s.backend = c.newBackend("", logger)
	if _, err := s.backend.open(ctx); err != nil {
		logger.Warn("actions cannot run until this is mended; the cache works", "error", err)
	}
	s.pool, err = c.newPool(s.backend, dir, logger)
	return err
}

// openScheduler makes the stack of executors and what feeds it.
func (c *serveCmd) openScheduler(s *stack, spool string, logger *slog.Logger) error {
	slots, err := c.newSlots(logger)
	if err != nil {
		return err
	}
	run := c.executor(s.pool, slots, spool)
	if c.AuditRate > 0 {
		if s.auditor, err = execution.WithAudit(run, execution.AuditOptions{Rate: c.AuditRate, Slots: slots, Logger: logger}); err != nil {
			return err
		}
		run = s.auditor
	}
	return s.schedule(run, slots, c.History, execution.SchedulerOptions{OrphanGrace: c.OrphanGrace, Logger: logger})
}

// schedule makes the scheduler of what answers requests by run.
func (s *stack) schedule(run execution.Executor, slots *execution.Slots, history int, opts execution.SchedulerOptions) error {
	executor, err := s.observe(s.answering(run), history, opts.Logger)
	if err != nil {
		return err
	}
	s.scheduler, err = execution.NewScheduler(executor, slots, opts)
	return err
}

// newSlots is what all actions share.
func (c *machineFlags) newSlots(logger *slog.Logger) (*execution.Slots, error) {
	return execution.NewSlots(execution.SlotsOptions{Total: c.total(), MaxQueued: c.MaxQueued, Logger: logger})
}

// executor stacks what runs an action: what is outermost sees it first.
func (c *machineFlags) executor(pool *runners.Pool, slots *execution.Slots, spool string) execution.Executor {
	run := execution.NewAction(execution.ActionOptions{
		Pool:           pool,
		DefaultTimeout: c.DefaultTimeout,
		MaxTimeout:     c.MaxTimeout,
		SpoolDir:       spool,
		MaxPrinted:     int64(c.MaxPrinted),
	})
	const attempts = 3
	run = execution.WithRetries(run, attempts)
	run = execution.WithTiming(run, hostname())
	run = execution.WithFreeDisk(run, c.DataDir)
	run = execution.WithAdmission(run, slots)
	return execution.WithMatching(run)
}

// hostname is where results say that they were made.
func hostname() string {
	host, err := os.Hostname()
	if err != nil || host == "" {
		return "hearth"
	}
	return host
}

// answering adds what is between a client's request and a run.
func (s *stack) answering(run execution.Executor) execution.Executor {
	run = execution.WithCaching(run)
	run = execution.WithServerLogs(run)
	return execution.WithTracing(run, s.telemetry.tracer())
}

// stop ends the parts that run, those that others need last.
func (s *stack) stop(ctx context.Context) error {
	s.server.Drain()
	errs := []error{s.endAudits(ctx), s.scheduler.Close(ctx)}
	// From here on nothing waits for actions any more, only for clean-up.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTimeout)
	defer cancel()
	errs = append(errs, s.assets.close(ctx))
	s.server.Finish()
	return errors.Join(append(errs, s.pool.Close(ctx), s.backend.Close(ctx))...)
}

// endAudits ends what runs for nobody in particular.
func (s *stack) endAudits(ctx context.Context) error {
	if s.auditor == nil {
		return nil
	}
	return s.auditor.Close(ctx)
}

// cleanUpTimeout bounds the removal of all containers.
const cleanUpTimeout = time.Minute

// close ends what holds files; it may be called with only some of it open.
func (s *stack) close(logger *slog.Logger) {
	var errs []error
	if s.guard != nil {
		s.guard.close()
	}
	if s.metrics != nil {
		ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
		defer cancel()
		errs = append(errs, s.metrics.provider.Shutdown(ctx))
	}
	if s.telemetry != nil {
		errs = append(errs, s.telemetry.close())
	}
	if s.inputs != nil {
		errs = append(errs, s.inputs.close())
	}
	if s.backing != nil {
		errs = append(errs, s.backing.close())
	}
	if s.blobs != nil {
		errs = append(errs, s.blobs.Close())
	}
	if err := errors.Join(errs...); err != nil {
		logger.Error("closing what was open", "error", err)
	}
}

func properties(m map[string]string) []runners.Property {
	var props []runners.Property
	for _, name := range slices.Sorted(maps.Keys(m)) {
		props = append(props, runners.Property{Name: name, Value: m[name]})
	}
	return props
}

// makeDirs makes directories of the data directory, for hearth alone.
func makeDirs(dataDir string, names ...string) (map[string]string, error) {
	dirs := map[string]string{}
	for _, name := range names {
		dirs[name] = filepath.Join(dataDir, name)
		if err := os.MkdirAll(dirs[name], 0o700); err != nil {
			return nil, fmt.Errorf("the data directory cannot be used (choose another with --data-dir): %w", err)
		}
	}
	return dirs, nil
}

// emptyDir removes the files that a crashed hearth left in dir.
func emptyDir(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}
