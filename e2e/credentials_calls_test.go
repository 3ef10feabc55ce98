package e2e_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	remoteasset "github.com/bazelbuild/remote-apis/build/bazel/remote/asset/v1"
	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/genproto/googleapis/bytestream"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/emptypb"
)

// call is a call, and how it is answered by caller.
type call struct {
	method string
	about  func(x *subject) proto.Message
	// owner is what its owner gets, which shows that the call is good and the thing there.
	owner, reader, elsewhere, other codes.Code
	// open: it takes no credentials.
	open bool
}

// known lists the codes of the callers who are known.
func (c *call) known() map[string]codes.Code {
	return map[string]codes.Code{"owner": c.owner, "reader": c.reader, "elsewhere": c.elsewhere, "other": c.other, "operator": c.other}
}

const (
	fine, refused, hidden   = codes.OK, codes.PermissionDenied, codes.NotFound
	reapiV2                 = "/build.bazel.remote.execution.v2."
	assetsV1, operationsAPI = "/build.bazel.remote.asset.v1.", "/google.longrunning.Operations/"
	execution               = reapiV2 + "Execution/Execute"
	unserved                = codes.Unimplemented
)

// calls are all there are. What stores something comes after what would find it.
func calls() []call {
	return slices.Concat(readingCalls(), storingCalls(), operationCalls(), otherCalls())
}

func readingCalls() []call {
	digests := func(d *repb.Digest) []*repb.Digest { return []*repb.Digest{d} }
	const cas = reapiV2 + "ContentAddressableStorage/"
	read := func(name func(*subject) string) func(*subject) proto.Message {
		return func(x *subject) proto.Message { return &bytestream.ReadRequest{ResourceName: name(x)} }
	}
	return []call{
		{reapiV2 + "ActionCache/GetActionResult", func(x *subject) proto.Message {
			return &repb.GetActionResultRequest{ActionDigest: x.ended}
		}, fine, fine, refused, hidden, false},
		{cas + "FindMissingBlobs", func(x *subject) proto.Message {
			return &repb.FindMissingBlobsRequest{BlobDigests: digests(x.blob)}
		}, fine, fine, refused, fine, false},
		{cas + "BatchReadBlobs", func(x *subject) proto.Message { return &repb.BatchReadBlobsRequest{Digests: digests(x.blob)} }, fine, fine, refused, fine, false},
		{cas + "GetTree", func(x *subject) proto.Message { return &repb.GetTreeRequest{RootDigest: x.root} }, fine, fine, refused, hidden, false},
		{cas + "SplitBlob", func(x *subject) proto.Message { return &repb.SplitBlobRequest{BlobDigest: x.blob} }, fine, fine, refused, hidden, false},
		{cas + "GetChunkMapping", func(x *subject) proto.Message { return &repb.GetChunkMappingRequest{} }, unserved, unserved, unserved, unserved, false},
		{"/google.bytestream.ByteStream/Read", read(func(x *subject) string {
			return fmt.Sprintf("blobs/%s/%d", x.blob.GetHash(), x.blob.GetSizeBytes())
		}), fine, fine, refused, hidden, false},
		{"/google.bytestream.ByteStream/Read", read(func(x *subject) string {
			return fmt.Sprintf("compressed-blobs/zstd/%s/%d", x.blob.GetHash(), x.blob.GetSizeBytes())
		}), fine, fine, refused, hidden, false},
		{"/google.bytestream.ByteStream/Read", read(func(x *subject) string { return x.stdout }), fine, fine, refused, hidden, false},
		{"/google.bytestream.ByteStream/QueryWriteStatus", func(x *subject) proto.Message {
			return &bytestream.QueryWriteStatusRequest{ResourceName: brokenOff(x)}
		}, fine, refused, refused, fine, false},
		{assetsV1 + "Fetch/FetchBlob", func(x *subject) proto.Message { return &remoteasset.FetchBlobRequest{Uris: []string{x.uri}} }, fine, refused, refused, fine, false},
		{assetsV1 + "Fetch/FetchDirectory", func(x *subject) proto.Message {
			return &remoteasset.FetchDirectoryRequest{Uris: []string{x.uri}}
		}, fine, refused, refused, fine, false},
	}
}

// storingCalls say what is not so, lest the other tenant has it afterwards: if the server
// took anything as there, it would not look.
func storingCalls() []call {
	const cas = reapiV2 + "ContentAddressableStorage/"
	return []call{
		{cas + "BatchUpdateBlobs", func(x *subject) proto.Message {
			return &repb.BatchUpdateBlobsRequest{Requests: []*repb.BatchUpdateBlobsRequest_Request{{Digest: x.blob, Data: bytes.Repeat([]byte("x"), int(x.blob.GetSizeBytes()))}}}
		}, fine, refused, refused, fine, false},
		{cas + "SpliceBlob", func(x *subject) proto.Message {
			return &repb.SpliceBlobRequest{BlobDigest: x.blob, ChunkDigests: []*repb.Digest{x.blob}}
		}, fine, refused, refused, hidden, false},
		{cas + "RegisterChunkMapping", func(x *subject) proto.Message { return &repb.RegisterChunkMappingRequest{} }, unserved, unserved, unserved, unserved, false},
		// Who has the blob hears so at once.
		{"/google.bytestream.ByteStream/Write", func(x *subject) proto.Message {
			return &bytestream.WriteRequest{ResourceName: fmt.Sprintf("uploads/u/blobs/%s/%d", x.blob.GetHash(), x.blob.GetSizeBytes())}
		}, fine, refused, refused, codes.InvalidArgument, false},
		{reapiV2 + "ActionCache/UpdateActionResult", func(x *subject) proto.Message {
			return &repb.UpdateActionResultRequest{ActionDigest: x.ended, ActionResult: &repb.ActionResult{OutputFiles: []*repb.OutputFile{{Path: "f", Digest: x.blob}}}}
		}, fine, refused, refused, fine, false},
		// Its blob is not one that this tenant has.
		{reapiV2 + "ActionCache/GetActionResult", func(x *subject) proto.Message {
			return &repb.GetActionResultRequest{ActionDigest: x.ended}
		}, fine, fine, refused, hidden, false},
		{assetsV1 + "Push/PushBlob", func(x *subject) proto.Message {
			return &remoteasset.PushBlobRequest{Uris: []string{x.uri}, BlobDigest: x.blob}
		}, fine, refused, refused, codes.FailedPrecondition, false},
		{assetsV1 + "Push/PushDirectory", func(x *subject) proto.Message {
			return &remoteasset.PushDirectoryRequest{Uris: []string{x.uri}, RootDirectoryDigest: x.root}
		}, fine, refused, refused, codes.FailedPrecondition, false},
	}
}

func operationCalls() []call {
	return []call{
		{execution, func(x *subject) proto.Message { return &repb.ExecuteRequest{ActionDigest: x.ended} }, fine, refused, refused, codes.FailedPrecondition, false},
		{reapiV2 + "Execution/WaitExecution", func(x *subject) proto.Message { return &repb.WaitExecutionRequest{Name: x.operation} }, fine, fine, hidden, hidden, false},
		{operationsAPI + "GetOperation", func(x *subject) proto.Message { return &longrunningpb.GetOperationRequest{Name: x.operation} }, fine, fine, hidden, hidden, false},
		{operationsAPI + "WaitOperation", func(x *subject) proto.Message {
			return &longrunningpb.WaitOperationRequest{Name: x.operation, Timeout: durationpb.New(time.Millisecond)}
		}, fine, fine, hidden, hidden, false},
		{operationsAPI + "ListOperations", func(x *subject) proto.Message { return &longrunningpb.ListOperationsRequest{Name: x.operation} }, fine, fine, fine, fine, false},
		{operationsAPI + "CancelOperation", func(x *subject) proto.Message { return &longrunningpb.CancelOperationRequest{Name: x.operation} }, fine, refused, hidden, hidden, false},
		{operationsAPI + "DeleteOperation", func(x *subject) proto.Message { return &longrunningpb.DeleteOperationRequest{Name: x.operation} }, fine, refused, hidden, hidden, false},
	}
}

func otherCalls() []call {
	services := func(*subject) proto.Message {
		return &grpc_reflection_v1.ServerReflectionRequest{MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_ListServices{}}
	}
	health := func(*subject) proto.Message { return &grpc_health_v1.HealthCheckRequest{} }
	return []call{
		{reapiV2 + "Capabilities/GetCapabilities", func(*subject) proto.Message { return &repb.GetCapabilitiesRequest{} }, fine, fine, refused, fine, false},
		{"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", services, fine, fine, fine, fine, false},
		{"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", services, fine, fine, fine, fine, false}, // the same messages
		{"/grpc.health.v1.Health/Check", health, fine, fine, fine, fine, true},
		{"/grpc.health.v1.Health/Watch", health, fine, fine, fine, fine, true},
		{"/grpc.health.v1.Health/List", health, fine, fine, fine, fine, false},
	}
}

// answer is how a call was answered: its code, and all else there was in it.
type answer struct {
	code codes.Code
	rest []byte
}

// ask makes a call of any kind with one message, and returns how it was answered: the
// first message counts, of an execution the last one.
func (s *secured) ask(who string, c *call, x *subject) answer {
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	if token := s.tokens[who]; token != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
	}
	var said proto.Message = &emptypb.Empty{} // which keeps the fields that it does not know
	var err error
	if c.method == execution {
		said, err = s.execute(ctx, c.about(x))
	} else {
		err = s.exchange(ctx, c, x, said)
	}
	text, merr := proto.Marshal(status.Convert(err).Proto())
	all, aerr := proto.Marshal(said)
	if err := errors.Join(merr, aerr); err != nil {
		s.t.Fatal(err)
	}
	return answer{status.Code(err), append(text, all...)}
}

func (s *secured) exchange(ctx context.Context, c *call, x *subject, said proto.Message) error {
	stream, err := s.conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, c.method)
	if err != nil {
		return err
	}
	if err := stream.SendMsg(c.about(x)); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	err = stream.RecvMsg(said)
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// execute returns how an execution ended, without names and times of its own.
func (s *secured) execute(ctx context.Context, req proto.Message) (*repb.ExecuteResponse, error) {
	stream, err := repb.NewExecutionClient(s.conn).Execute(ctx, req.(*repb.ExecuteRequest))
	if err != nil {
		return nil, err
	}
	for {
		op, err := stream.Recv()
		if err != nil {
			return nil, err
		}
		if op.GetDone() {
			resp := &repb.ExecuteResponse{}
			if err := op.GetResponse().UnmarshalTo(resp); err != nil {
				return nil, err
			}
			return resp, status.FromProto(resp.GetStatus()).Err()
		}
	}
}

// same reports whether two answers differ in nothing but the names that were asked for.
func (s *secured) same(theirs, absent []byte) bool {
	for i, name := range s.theirs.names() {
		theirs = bytes.ReplaceAll(theirs, []byte(name), []byte(s.absent.names()[i]))
	}
	return bytes.Equal(theirs, absent)
}

// methods are all that the server has.
func (s *secured) methods() []string {
	s.t.Helper()
	ctx := metadata.AppendToOutgoingContext(s.t.Context(), "authorization", "Bearer "+s.tokens["operator"])
	stream, err := grpc_reflection_v1.NewServerReflectionClient(s.conn).ServerReflectionInfo(ctx)
	if err != nil {
		s.t.Fatal(err)
	}
	ask := func(req *grpc_reflection_v1.ServerReflectionRequest) *grpc_reflection_v1.ServerReflectionResponse {
		if err := stream.Send(req); err != nil {
			s.t.Fatal(err)
		}
		resp, err := stream.Recv()
		if err != nil || resp.GetErrorResponse() != nil {
			s.t.Fatal(err, resp)
		}
		return resp
	}
	var all []string
	services := ask(&grpc_reflection_v1.ServerReflectionRequest{MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_ListServices{}})
	for _, service := range services.GetListServicesResponse().GetService() {
		files := ask(&grpc_reflection_v1.ServerReflectionRequest{
			MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: service.GetName()},
		}).GetFileDescriptorResponse().GetFileDescriptorProto()
		for _, text := range files {
			file := &descriptorpb.FileDescriptorProto{}
			if err := proto.Unmarshal(text, file); err != nil {
				s.t.Fatal(err)
			}
			for _, defined := range file.GetService() {
				if file.GetPackage()+"."+defined.GetName() != service.GetName() {
					continue
				}
				for _, m := range defined.GetMethod() {
					all = append(all, "/"+service.GetName()+"/"+m.GetName())
				}
			}
		}
	}
	return all
}

// checkCalls makes every call as every caller.
func (s *secured) checkCalls(t *testing.T) {
	table := calls()
	for _, method := range s.methods() {
		if !slices.ContainsFunc(table, func(c call) bool { return c.method == method }) {
			t.Errorf("%s has no row in the table", method)
		}
	}
	for i := range table {
		c := &table[i]
		for _, who := range unknownCallers() {
			want := codes.Unauthenticated
			if c.open {
				want = codes.OK
			}
			s.checkCall(t, c, who, want)
		}
		for _, who := range []string{"operator", "other", "elsewhere", "reader", "owner"} { // the owner's call may end what it is about
			s.checkCall(t, c, who, c.known()[who])
		}
	}
}

// checkCall makes a call about what is there, and, as who must not know that, about what
// is not.
func (s *secured) checkCall(t *testing.T, c *call, who string, want codes.Code) {
	theirs := s.ask(who, c, &s.theirs)
	if theirs.code != want {
		t.Errorf("%s by %s: %v, want %v: %q", c.method, who, theirs.code, want, theirs.rest)
	}
	if who == "owner" || who == "reader" && (want == codes.OK || strings.HasPrefix(c.method, operationsAPI)) {
		return // who may know
	}
	if absent := s.ask(who, c, &s.absent); absent.code != theirs.code || !s.same(theirs.rest, absent.rest) {
		t.Errorf("%s tells %s what is there: %v %q, and of what is not there %v %q", c.method, who, theirs.code, theirs.rest, absent.code, absent.rest)
	}
}
