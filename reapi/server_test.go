package reapi_test

import (
	"context"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/genproto/googleapis/bytestream"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/actioncache"
	"github.com/hearth-build/hearth/cas/memory"
	"github.com/hearth-build/hearth/reapi"
	"github.com/hearth-build/hearth/reapi/execution"
)

// executorFunc is an Executor made of a function.
type executorFunc func(context.Context, *execution.Task, execution.Report) *execution.Outcome

func (f executorFunc) Execute(ctx context.Context, t *execution.Task, report execution.Report) *execution.Outcome {
	return f(ctx, t, report)
}

// fixture is a server on loopback, with a client's connection to it.
type fixture struct {
	t         testing.TB
	conn      *grpc.ClientConn
	instances reapi.Instances
	server    *reapi.Server
	scheduler *execution.Scheduler
	run       executorFunc
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	return newFixtureOf(t, newInstances())
}

func newInstances() reapi.Instances {
	instances := reapi.Instances{}
	for _, name := range []string{"", "team/one"} {
		store := memory.New(64 << 20)
		instances[name] = &execution.Instance{
			Name: name, Store: store, Results: actioncache.Complete(actioncache.NewMemory(1000), store),
		}
	}
	return instances
}

func newFixtureOf(t testing.TB, instances reapi.Instances) *fixture {
	t.Helper()
	return newFixtureWith(t, instances, execution.SchedulerOptions{})
}

func newFixtureWith(t testing.TB, instances reapi.Instances, opts execution.SchedulerOptions, options ...reapi.Option) *fixture {
	t.Helper()
	f := &fixture{t: t, instances: instances}
	slots, err := execution.NewSlots(execution.SlotsOptions{
		Total: execution.Resources{MilliCPU: 2000, Memory: 1 << 30, Runners: 8}, MaxQueued: 100,
	})
	if err != nil {
		t.Fatal(err)
	}
	f.scheduler, err = execution.NewScheduler(execution.WithAdmission(executorFunc(
		func(ctx context.Context, task *execution.Task, report execution.Report) *execution.Outcome {
			return f.run(ctx, task, report)
		}), slots), slots, opts)
	if err != nil {
		t.Fatal(err)
	}
	if f.server, err = reapi.NewServer(f.instances, f.scheduler, options...); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- f.server.Serve(listener) }()
	if f.conn, err = grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials())); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = f.scheduler.Close(ctx) // says only whether runs had to be cancelled
		if err := f.conn.Close(); err != nil {
			t.Error(err)
		}
		f.server.Finish()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return f
}

// put stores a blob in the instance with the empty name.
func (f *fixture) put(data []byte) *repb.Digest {
	f.t.Helper()
	d, err := cas.PutBytes(f.t.Context(), f.instances[""].Store, cas.SHA256, data)
	if err != nil {
		f.t.Fatal(err)
	}
	return d.Proto()
}

func (f *fixture) putMessage(m proto.Message) *repb.Digest {
	f.t.Helper()
	data, err := proto.Marshal(m)
	if err != nil {
		f.t.Fatal(err)
	}
	return f.put(data)
}

func wantCode(t *testing.T, what string, err error, want codes.Code) {
	t.Helper()
	if got := status.Code(err); got != want {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

func digest(data string) *repb.Digest { return cas.SHA256.Sum([]byte(data)).Proto() }

// REAPI A1-A9, A13-A19, A22, A23.
func TestCapabilities(t *testing.T) {
	f := newFixture(t)
	client := repb.NewCapabilitiesClient(f.conn)
	for _, name := range []string{"", "team/one"} {
		c, err := client.GetCapabilities(t.Context(), &repb.GetCapabilitiesRequest{InstanceName: name})
		if err != nil {
			t.Fatal(err)
		}
		if low := c.GetLowApiVersion(); low.GetMajor() != 2 || low.GetMinor() != 0 {
			t.Errorf("low version %v keeps Bazel 4 out", low)
		}
		if high := c.GetHighApiVersion(); high.GetMajor() != 2 || high.GetMinor() != 12 {
			t.Errorf("high version %v", high)
		}
		ex, ca := c.GetExecutionCapabilities(), c.GetCacheCapabilities()
		if !ex.GetExecEnabled() || ex.GetDigestFunction() != repb.DigestFunction_SHA256 {
			t.Errorf("execution capabilities %v", ex)
		}
		if p := ex.GetSupportedNodeProperties(); !slices.Equal(p, []string{"mtime", "unix_mode"}) {
			t.Errorf("node properties %q", p)
		}
		if !ca.GetActionCacheUpdateCapabilities().GetUpdateEnabled() {
			t.Error("the action cache cannot be updated")
		}
		if n := ca.GetMaxBatchTotalSizeBytes(); n <= 0 || n > 4<<20-64<<10 {
			t.Errorf("batches of %d bytes do not fit into what clients receive", n)
		}
		seen := map[repb.DigestFunction_Value]bool{}
		for _, fn := range ca.GetDigestFunctions() {
			if seen[fn] || fn == repb.DigestFunction_UNKNOWN {
				t.Errorf("digest functions %v", ca.GetDigestFunctions())
			}
			seen[fn] = true
		}
		if len(seen) != 8 || ca.GetDigestFunctions()[0] != repb.DigestFunction_SHA256 || !slices.Equal(ca.GetDigestFunctions(), ex.GetDigestFunctions()) {
			t.Errorf("digest functions %v and %v", ca.GetDigestFunctions(), ex.GetDigestFunctions())
		}
		both := []repb.Compressor_Value{repb.Compressor_ZSTD, repb.Compressor_DEFLATE}
		if !slices.Equal(ca.GetSupportedCompressors(), both) || !slices.Equal(ca.GetSupportedBatchUpdateCompressors(), both) {
			t.Errorf("compressors %v, in batches %v", ca.GetSupportedCompressors(), ca.GetSupportedBatchUpdateCompressors())
		}
		if n := ca.GetMaxCasBlobSizeBytes(); n != 0 {
			t.Errorf("blobs of at most %d bytes", n)
		}
		checkChunkingCapabilities(t, ca)
		for _, r := range ca.GetCachePriorityCapabilities().GetPriorities() {
			if r.GetMinPriority() > 0 || r.GetMaxPriority() < 0 {
				t.Errorf("priorities %v exclude 0", r)
			}
		}
	}
}

// REAPI A24, A26: a wrong instance name is a mistake on every service, never a miss.
func TestWrongInstanceName(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	for _, name := range []string{"nobody", "team", "a//b", "/a", "a/", "a/blobs/b"} {
		_, err := repb.NewCapabilitiesClient(f.conn).GetCapabilities(ctx, &repb.GetCapabilitiesRequest{InstanceName: name})
		wantCode(t, "GetCapabilities "+name, err, codes.InvalidArgument)
		_, err = repb.NewContentAddressableStorageClient(f.conn).FindMissingBlobs(ctx, &repb.FindMissingBlobsRequest{InstanceName: name})
		wantCode(t, "FindMissingBlobs "+name, err, codes.InvalidArgument)
		_, err = repb.NewContentAddressableStorageClient(f.conn).BatchReadBlobs(ctx, &repb.BatchReadBlobsRequest{InstanceName: name})
		wantCode(t, "BatchReadBlobs "+name, err, codes.InvalidArgument)
		_, err = repb.NewContentAddressableStorageClient(f.conn).BatchUpdateBlobs(ctx, &repb.BatchUpdateBlobsRequest{InstanceName: name})
		wantCode(t, "BatchUpdateBlobs "+name, err, codes.InvalidArgument)
		_, err = repb.NewActionCacheClient(f.conn).GetActionResult(ctx, &repb.GetActionResultRequest{InstanceName: name, ActionDigest: digest("a")})
		wantCode(t, "GetActionResult "+name, err, codes.InvalidArgument)
		_, err = repb.NewActionCacheClient(f.conn).UpdateActionResult(ctx, &repb.UpdateActionResultRequest{InstanceName: name, ActionDigest: digest("a")})
		wantCode(t, "UpdateActionResult "+name, err, codes.InvalidArgument)
		_, err = f.execute(&repb.ExecuteRequest{InstanceName: name, ActionDigest: digest("a")})
		wantCode(t, "Execute "+name, err, codes.InvalidArgument)
		_, err = f.read(&bytestream.ReadRequest{ResourceName: name + "/blobs/" + cas.SHA256.Sum(nil).Name()})
		wantCode(t, "Read "+name, err, codes.InvalidArgument)
	}
}

// REAPI A27: instances share nothing.
func TestInstancesAreApart(t *testing.T) {
	f := newFixture(t)
	d := f.put([]byte("only here"))
	resp, err := repb.NewContentAddressableStorageClient(f.conn).FindMissingBlobs(t.Context(),
		&repb.FindMissingBlobsRequest{InstanceName: "team/one", BlobDigests: []*repb.Digest{d}})
	if err != nil || len(resp.GetMissingBlobDigests()) != 1 {
		t.Errorf("%v, %v", resp, err)
	}
	_, err = f.read(&bytestream.ReadRequest{ResourceName: "team/one/blobs/" + cas.SHA256.Sum([]byte("only here")).Name()})
	wantCode(t, "read", err, codes.NotFound)
}

// REAPI A26: what is wrong with a name is said in a few words.
func TestLongInstanceName(t *testing.T) {
	f := newFixture(t)
	for _, name := range []string{strings.Repeat("\x01", 10_000), strings.Repeat("\x01", 10_000) + "/", strings.Repeat("\x01", 10_000) + "/blobs"} {
		_, err := repb.NewCapabilitiesClient(f.conn).GetCapabilities(t.Context(), &repb.GetCapabilitiesRequest{InstanceName: name})
		wantCode(t, "GetCapabilities", err, codes.InvalidArgument)
		if n := len(status.Convert(err).Message()); n > 2000 {
			t.Errorf("%d bytes of error for a name of %d", n, len(name))
		}
	}
}

// REAPI I1, I5, I9: metadata that nobody can read, foreign headers and gzip.
func TestTransport(t *testing.T) {
	f := newFixture(t)
	ctx := metadata.AppendToOutgoingContext(t.Context(),
		"build.bazel.remote.execution.v2.requestmetadata-bin", "\xff\xff nonsense", "x-foreign", "1")
	_, err := repb.NewContentAddressableStorageClient(f.conn).FindMissingBlobs(ctx,
		&repb.FindMissingBlobsRequest{BlobDigests: []*repb.Digest{digest("x")}}, grpc.UseCompressor(gzip.Name))
	wantCode(t, "FindMissingBlobs", err, codes.OK)
}

// REAPI I11.
func TestHealthAndReflection(t *testing.T) {
	f := newFixture(t)
	health := grpc_health_v1.NewHealthClient(f.conn)
	resp, err := health.Check(t.Context(), &grpc_health_v1.HealthCheckRequest{})
	if err != nil || resp.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
		t.Errorf("health %v, %v", resp, err)
	}
	f.server.Drain()
	if resp, err = health.Check(t.Context(), &grpc_health_v1.HealthCheckRequest{}); err != nil || resp.GetStatus() != grpc_health_v1.HealthCheckResponse_NOT_SERVING {
		t.Errorf("health while draining %v, %v", resp, err)
	}
	stream, err := grpc_reflection_v1.NewServerReflectionClient(f.conn).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&grpc_reflection_v1.ServerReflectionRequest{MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_ListServices{}}); err != nil {
		t.Fatal(err)
	}
	list, err := stream.Recv()
	if err != nil || len(list.GetListServicesResponse().GetService()) < 6 {
		t.Errorf("reflection %v, %v", list, err)
	}
	if err := stream.CloseSend(); err != nil {
		t.Error(err)
	}
}

// What Capabilities do not promise answers UNIMPLEMENTED: chunks are mapped by
// streams from version 2.13 on only (REAPI A19).
func TestUnimplemented(t *testing.T) {
	f := newFixture(t)
	client := repb.NewContentAddressableStorageClient(f.conn)
	get, err := client.GetChunkMapping(t.Context(), &repb.GetChunkMappingRequest{})
	if err == nil {
		_, err = get.Recv()
	}
	wantCode(t, "GetChunkMapping", err, codes.Unimplemented)
	register, err := client.RegisterChunkMapping(t.Context())
	if err == nil {
		_, err = register.CloseAndRecv()
	}
	wantCode(t, "RegisterChunkMapping", err, codes.Unimplemented)
}

// Headers beyond all reason are refused, and nobody else notices.
func TestHugeHeaders(t *testing.T) {
	f := newFixture(t)
	client := repb.NewCapabilitiesClient(f.conn)
	huge := metadata.AppendToOutgoingContext(t.Context(), "x-huge", strings.Repeat("x", 1<<20))
	if _, err := client.GetCapabilities(huge, &repb.GetCapabilitiesRequest{}); err == nil {
		t.Error("a header of 1 MiB is taken")
	}
	large := metadata.AppendToOutgoingContext(t.Context(), "x-large", strings.Repeat("x", 64<<10))
	_, err := client.GetCapabilities(large, &repb.GetCapabilitiesRequest{})
	wantCode(t, "a header of 64 KiB", err, codes.OK)
}
