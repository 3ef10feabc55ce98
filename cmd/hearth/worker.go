package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/buildbarn/bb-remote-execution/pkg/proto/remoteworker"
	"github.com/google/uuid"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"

	"github.com/hearth-build/hearth/reapi/buildbarn"
	"github.com/hearth-build/hearth/reapi/buildbuddy"
	"github.com/hearth-build/hearth/reapi/cluster"
	"github.com/hearth-build/hearth/reapi/execution"
)

// Run works until a signal arrives.
func (c *workerCmd) Run(logger *slog.Logger, stop *stopping, live *reloading) error {
	if err := c.validate(); err != nil {
		return err
	}
	web, err := listen("--console", c.Console)
	if err != nil {
		return err
	}
	defer web.Close()
	s := &stack{started: time.Now(), endpoint: c.endpoint()}
	defer s.close(logger)
	conn, err := c.build(stop.first, logger, s)
	if err != nil {
		return err
	}
	defer conn.Close()
	webServer, web, url, err := s.openConsole(web)
	if err != nil {
		return err
	}
	served := make(chan error, 1)
	go func() { served <- webServer.Serve(web) }() // ends with webServer.Close
	defer live.start(logger)()
	c.announce(os.Stdout, url)
	c.work(stop, logger, s)
	err = errors.Join(s.stopWorker(), webServer.Close())
	if serveErr := <-served; !errors.Is(serveErr, http.ErrServerClosed) {
		err = errors.Join(err, fmt.Errorf("serve the console: %w", serveErr))
	}
	return err
}

// build opens the parts, those that others need first, and the connection to the
// scheduler, which the caller closes.
func (c *workerCmd) build(ctx context.Context, logger *slog.Logger, s *stack) (*grpc.ClientConn, error) {
	dirs, err := makeDirs(c.DataDir, "runners", "spool")
	if err != nil {
		return nil, err
	}
	if s.guard, err = c.Guard.open(&listenFlags{Listen: c.Console, certFlags: c.certFlags}, logger); err != nil {
		return nil, err
	}
	if s.telemetry, err = c.Telemetry.open(ctx, logger); err != nil {
		return nil, err
	}
	if s.metrics, err = newMetrics(s.telemetry.metrics...); err != nil {
		return nil, err
	}
	if err := c.openStores(ctx, s, dirs["spool"], logger); err != nil {
		return nil, err
	}
	if s.backing, err = c.Backing.open(logger, c.shown); err != nil {
		return nil, err
	}
	if err := c.openPool(ctx, s, dirs["runners"], logger); err != nil {
		return nil, err
	}
	slots, err := c.newSlots(logger)
	if err != nil {
		return nil, err
	}
	if err := s.schedule(c.executor(s.pool, slots, dirs["spool"]), slots, c.History, execution.SchedulerOptions{Logger: logger}); err != nil {
		return nil, err
	}
	conn, err := c.dial()
	if err != nil {
		return nil, err
	}
	if s.worker, err = c.newWorker(s, conn, logger); err == nil {
		err = s.metrics.watch(s)
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// clusterWorker takes actions from a scheduler elsewhere.
type clusterWorker interface {
	// Run takes actions until ctx ends, and returns when it has none any more. Those
	// that run go on until handBack is closed.
	Run(ctx context.Context, handBack <-chan struct{})
	// Busy is how many slots have an action, and how many there are.
	Busy() (busy, slots int)
}

func (c *workerCmd) newWorker(s *stack, conn *grpc.ClientConn, logger *slog.Logger) (clusterWorker, error) {
	storage := &openedInstances{open: func(tenant, name string) (*execution.Instance, error) {
		return c.newInstance(context.Background(), s, name, namespace(tenant, name))
	}}
	s.instances = storage
	actions := cluster.Actions{Scheduler: s.scheduler, Instance: storage.find}
	ready := &readiness{check: func(ctx context.Context) error {
		return errors.Join(s.backend.ready(ctx), c.checkFreeDisk())
	}}
	if c.BuildBuddy.Address != "" {
		return buildbuddy.NewWorker(buildbuddy.Options{Conn: conn, Actions: actions, Node: c.node(), Ready: ready.now, Logger: logger})
	}
	browser, err := c.browser()
	if err != nil {
		return nil, err
	}
	assigned, err := buildbarn.NewActions(buildbarn.ActionsOptions{Actions: actions, Prefix: c.InstanceNamePrefix, Browser: browser, Logger: logger})
	if err != nil {
		return nil, err
	}
	return buildbarn.NewWorker(buildbarn.Options{
		Queue: remoteworker.NewOperationQueueClient(conn), Actions: assigned, Slots: c.Slots, ID: c.WorkerID,
		Platform: properties(c.Platform), SizeClass: c.SizeClass, Ready: ready.now, Logger: logger,
	})
}

// node is what a BuildBuddy app is told of this machine. It finds a machine again by
// where the results of earlier actions say that they were made.
func (c *workerCmd) node() buildbuddy.Node {
	return buildbuddy.Node{
		ID: uuid.NewString(), HostID: hostname(), Hostname: hostname(), Pool: c.BuildBuddy.Pool,
		Arch: runtime.GOARCH, Version: version(), Resources: c.total(),
	}
}

// work takes actions until a signal arrives, and ends those that it has.
func (c *workerCmd) work(stop *stopping, logger *slog.Logger, s *stack) {
	handBack := make(chan struct{})
	ended := make(chan struct{})
	var wait sync.WaitGroup
	wait.Go(func() {
		select {
		case <-stop.first.Done():
		case <-ended:
			return
		}
		logger.Info("draining: no action is taken, and those whose command does not run yet are handed back; a second signal hands back all", "deadline", c.DrainTimeout)
		timer := time.NewTimer(c.DrainTimeout)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-stop.second.Done():
		case <-ended:
		}
		close(handBack)
	})
	s.worker.Run(stop.first, handBack)
	close(ended)
	wait.Wait()
}

// stopWorker ends what runs actions, of which there are none any more.
func (s *stack) stopWorker() error {
	ctx, cancel := context.WithTimeout(context.Background(), cleanUpTimeout)
	defer cancel()
	return errors.Join(s.scheduler.Close(ctx), s.pool.Close(ctx), s.backend.Close(ctx))
}

// checkFreeDisk says when there is too little room to run anything.
func (c *workerCmd) checkFreeDisk() error {
	var fs unix.Statfs_t
	if err := unix.Statfs(c.DataDir, &fs); err != nil {
		return fmt.Errorf("look for free room in %s: %w", c.DataDir, err)
	}
	if free := int64(fs.Bavail) * fs.Bsize; free < int64(c.MinFreeDisk) {
		return fmt.Errorf("the file system of %s has %d bytes free, less than --min-free-disk %d: free some, or let the store use less (--max-bytes)", c.DataDir, free, int64(c.MinFreeDisk))
	}
	return nil
}

// dial makes a connection to the scheduler on which a network that is gone is noticed
// in time to call by another: schedulers give a worker up that is silent for long.
func (c *workerCmd) dial() (*grpc.ClientConn, error) {
	const silence = 20 * time.Second
	dialer := &net.Dialer{
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: silence, Interval: silence / 4, Count: 4},
		Control: func(_, _ string, raw syscall.RawConn) error {
			var failed error
			err := raw.Control(func(fd uintptr) {
				failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(silence.Milliseconds()))
			})
			return errors.Join(err, failed)
		},
	}
	options := c.shown(c.endpoint())
	if !strings.HasPrefix(c.endpoint(), unixScheme) {
		options = append(options, grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return dialer.DialContext(ctx, "tcp", address)
		}))
	}
	if c.BuildBuddy.Address != "" {
		return c.BuildBuddy.Trust.dial(c.endpoint(), options...)
	}
	return c.Scheduler.dial(c.endpoint(), options...)
}

// shown is who calls, for the app of BuildBuddy, which may be the storage, too. Nobody
// else is shown that.
func (c *workerCmd) shown(endpoint string) []grpc.DialOption {
	if c.BuildBuddy.Address == "" || endpoint != c.endpoint() {
		return nil
	}
	return []grpc.DialOption{grpc.WithPerRPCCredentials(buildbuddy.Credentials{APIKey: c.BuildBuddy.apiKey})}
}

// announce tells a person where to look.
func (c *workerCmd) announce(w io.Writer, web string) {
	fmt.Fprintf(w, "hearth %s\nworker    of %s\nconsole   on %s\n\n", version(), c.endpoint(), web)
}
