package reapi

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	remoteasset "github.com/bazelbuild/remote-apis/build/bazel/remote/asset/v1"
	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/genproto/googleapis/bytestream"
	"google.golang.org/grpc"
	_ "google.golang.org/grpc/encoding/gzip" // clients may compress requests
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	"github.com/hearth-build/hearth/reapi/access"
	"github.com/hearth-build/hearth/reapi/execution"
)

// Server is a gRPC server with the services of the Remote Execution API.
type Server struct {
	*grpc.Server
	health  *health.Server
	uploads *uploads
}

// maxReceive leaves room for a full batch, and for clients that put 4 MiB into
// one message of an upload.
const maxReceive = 8 << 20

const (
	// maxHeaderBytes is far more than tokens and metadata take.
	maxHeaderBytes = 128 << 10
	// maxStreams of one connection are more than any build has actions in flight.
	maxStreams = 20_000
	// handshakeTimeout bounds how long somebody may take to say what protocol they speak.
	handshakeTimeout = 20 * time.Second
	// streamWindow and connWindow are how much a client may send ahead, of one call and
	// of all. Windows that gRPC sizes itself cost a ping, an answer and a wake-up on
	// both sides whenever something comes in.
	streamWindow = 4 << 20
	connWindow   = 16 << 20
)

// Option is what not every server has.
type Option func(*serverConfig)

type serverConfig struct {
	grpc   []grpc.ServerOption
	who    access.Authenticator
	open   func(tenant string) (Instances, error)
	assets func(*execution.Instance) Assets
	log    *slog.Logger
}

// NewServer returns a server for the instances whose executions go to scheduler.
func NewServer(instances Instances, scheduler *execution.Scheduler, options ...Option) (*Server, error) {
	for name := range instances {
		if err := CheckInstanceName(name); err != nil {
			return nil, err
		}
	}
	if len(instances) == 0 {
		return nil, errors.New("a server needs at least one instance name")
	}
	config := serverConfig{who: access.NewOpen(), log: slog.New(slog.DiscardHandler)}
	for _, set := range options {
		set(&config)
	}
	callers, failures := callers{config.who}, failures{config.log}
	s := &Server{
		Server: grpc.NewServer(append([]grpc.ServerOption{
			grpc.MaxRecvMsgSize(maxReceive),
			grpc.MaxHeaderListSize(maxHeaderBytes),
			grpc.MaxConcurrentStreams(maxStreams),
			grpc.ConnectionTimeout(handshakeTimeout),
			grpc.ForceServerCodecV2(newWireCodec()),
			grpc.StaticStreamWindowSize(streamWindow),
			grpc.StaticConnWindowSize(connWindow),
			// Bazel's --grpc_keepalive_time may be as short as this.
			grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
			grpc.KeepaliveParams(keepalive.ServerParameters{Time: time.Minute, Timeout: 20 * time.Second}),
			grpc.ChainUnaryInterceptor(failures.unary, callers.unary),
			grpc.ChainStreamInterceptor(failures.stream, callers.stream),
		}, config.grpc...)...),
		health:  health.NewServer(),
		uploads: newUploads(defaultUploadLimits()),
	}
	return s, s.register(&doors{own: instances, open: config.open}, scheduler, config.assets)
}

// register adds the services.
func (s *Server) register(doors *doors, scheduler *execution.Scheduler, assets func(*execution.Instance) Assets) error {
	codecs := newCodecs()
	operations := &operations{scheduler: scheduler}
	chunks, err := newChunkServer(&casServer{instances: doors, codecs: codecs})
	if err != nil {
		return err
	}
	repb.RegisterCapabilitiesServer(s, &capabilitiesServer{instances: doors})
	repb.RegisterContentAddressableStorageServer(s, chunks)
	repb.RegisterActionCacheServer(s, &actionCacheServer{instances: doors})
	repb.RegisterExecutionServer(s, &executionServer{instances: doors, operations: operations})
	longrunningpb.RegisterOperationsServer(s.Server, &operationsServer{operations: operations})
	bytestream.RegisterByteStreamServer(s.Server, newByteStreamServer(doors, codecs, s.uploads))
	if assets != nil {
		a := assetInstances{doors, assets}
		remoteasset.RegisterFetchServer(s, &fetchServer{assets: a})
		remoteasset.RegisterPushServer(s, &pushServer{assets: a})
	}
	grpc_health_v1.RegisterHealthServer(s, s.health)
	reflection.Register(s)
	return nil
}

// Drain tells health checks that no new work is taken.
func (s *Server) Drain() { s.health.Shutdown() }

// Finish ends the calls that are left, after the executions have ended: the
// last messages still go out, and a client that does not read them is cut off.
// Uploads that broke off are given up.
func (s *Server) Finish() {
	s.uploads.close()
	ctx, cancel := context.WithTimeout(context.Background(), finishTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, s.Stop)
	defer stop()
	s.GracefulStop()
	s.uploads.wait(ctx)
}

const finishTimeout = 5 * time.Second
