// Command buildbarn is Buildbarn's scheduler, with the settings of bb_scheduler and
// flags instead of its configuration file: the tests of package e2e let hearth work
// for it. It is a module of its own, since it needs hundreds of others.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"math/rand/v2"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	remoteexecution "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	re_blobstore "github.com/buildbarn/bb-remote-execution/pkg/blobstore"
	"github.com/buildbarn/bb-remote-execution/pkg/proto/buildqueuestate"
	"github.com/buildbarn/bb-remote-execution/pkg/proto/remoteworker"
	"github.com/buildbarn/bb-remote-execution/pkg/scheduler"
	"github.com/buildbarn/bb-remote-execution/pkg/scheduler/initialsizeclass"
	"github.com/buildbarn/bb-remote-execution/pkg/scheduler/invocation"
	"github.com/buildbarn/bb-remote-execution/pkg/scheduler/platform"
	"github.com/buildbarn/bb-remote-execution/pkg/scheduler/routing"
	"github.com/buildbarn/bb-storage/pkg/auth"
	"github.com/buildbarn/bb-storage/pkg/blobstore/grpcclients"
	"github.com/buildbarn/bb-storage/pkg/capabilities"
	"github.com/buildbarn/bb-storage/pkg/clock"
	"github.com/buildbarn/bb-storage/pkg/digest"
	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// maxMessage is the most that one message may have.
const maxMessage = 4 << 20

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "where clients and workers come to")
	cas := flag.String("cas", "", "HOST:PORT of the storage")
	classes := flag.Int("size-classes", 0, "how many size classes to declare for workers without properties")
	flag.Parse()
	if err := run(*listen, *cas, *classes); err != nil {
		log.Fatal(err)
	}
}

func run(listen, cas string, classes int) error {
	conn, err := grpc.NewClient(cas, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return fmt.Errorf("-cas: %w", err)
	}
	defer conn.Close()
	queue, err := newQueue(conn, classes)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		return fmt.Errorf("-listen: %w", err)
	}
	server := grpc.NewServer()
	remoteexecution.RegisterCapabilitiesServer(server, capabilities.NewServer(queue))
	remoteexecution.RegisterExecutionServer(server, queue)
	remoteworker.RegisterOperationQueueServer(server, queue)
	buildqueuestate.RegisterBuildQueueStateServer(server, queue)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	defer context.AfterFunc(ctx, server.Stop)()
	fmt.Printf("listening on %s\n", listener.Addr())
	return server.Serve(listener)
}

// newQueue is bb_scheduler's, for actions with the platform properties of either
// message, and a fair share for each invocation.
func newQueue(conn grpc.ClientConnInterface, classes int) (*scheduler.InMemoryBuildQueue, error) {
	storage := re_blobstore.NewExistencePreconditionBlobAccess(grpcclients.NewCASBlobAccess(conn, uuid.NewRandom, 64<<10))
	everybody := auth.NewStaticAuthorizer(func(digest.InstanceName) bool { return true })
	router := routing.NewSimpleActionRouter(
		platform.NewActionAndCommandKeyExtractor(storage, maxMessage),
		[]invocation.KeyExtractor{invocation.ToolInvocationIDKeyExtractor},
		initialsizeclass.NewFallbackAnalyzer(initialsizeclass.NewActionTimeoutExtractor(30*time.Minute, time.Hour)),
	)
	queue := scheduler.NewInMemoryBuildQueue(storage, clock.SystemClock, uuid.NewRandom, &scheduler.InMemoryBuildQueueConfiguration{
		ExecutionUpdateInterval:              time.Minute,
		OperationWithNoWaitersTimeout:        time.Minute,
		PlatformQueueWithNoWorkersTimeout:    15 * time.Minute,
		BusyWorkerSynchronizationInterval:    10 * time.Second,
		GetIdleWorkerSynchronizationInterval: func() time.Duration { return rand.N(2 * time.Minute) },
		WorkerTaskRetryCount:                 9,
		WorkerWithNoSynchronizationsTimeout:  time.Minute,
	}, maxMessage, router, everybody, everybody, everybody, everybody)
	if classes == 0 {
		return queue, nil
	}
	var sizes []uint32
	for i := range classes {
		sizes = append(sizes, uint32(i+1))
	}
	if err := queue.RegisterPredeclaredPlatformQueue(digest.EmptyInstanceName, &remoteexecution.Platform{}, nil, 0, 0, sizes); err != nil {
		return nil, fmt.Errorf("declare %s size classes: %w", strings.Trim(fmt.Sprint(sizes), "[]"), err)
	}
	return queue, nil
}
