package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/genproto/googleapis/bytestream"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// nullServer does what no server can do without: it receives blobs and hashes
// them, and sends bytes that are in memory already. It stores nothing.
type nullServer struct {
	bytestream.UnimplementedByteStreamServer
	repb.UnimplementedContentAddressableStorageServer
	repb.UnimplementedCapabilitiesServer
}

// newNullServer returns a server that grpc-go makes by itself, with nothing set
// but what large messages need.
func newNullServer() *grpc.Server {
	s := grpc.NewServer(grpc.MaxRecvMsgSize(8 << 20))
	bytestream.RegisterByteStreamServer(s, &nullServer{})
	repb.RegisterContentAddressableStorageServer(s, &nullServer{})
	repb.RegisterCapabilitiesServer(s, &nullServer{})
	return s
}

// Write implements bytestream.ByteStreamServer.
func (*nullServer) Write(stream bytestream.ByteStream_WriteServer) error {
	h, name := sha256.New(), ""
	var n int64
	for {
		req, err := stream.Recv()
		if err != nil {
			return err
		}
		name = max(name, req.GetResourceName())
		h.Write(req.GetData())
		n += int64(len(req.GetData()))
		if req.GetFinishWrite() {
			if sum := hex.EncodeToString(h.Sum(nil)); !strings.Contains(name, sum) {
				return status.Errorf(codes.InvalidArgument, "the bytes sent as %s are %s", name, sum)
			}
			return stream.SendAndClose(&bytestream.WriteResponse{CommittedSize: n})
		}
	}
}

// Read implements bytestream.ByteStreamServer.
func (*nullServer) Read(req *bytestream.ReadRequest, stream bytestream.ByteStream_ReadServer) error {
	name := req.GetResourceName()
	left, err := strconv.ParseInt(name[strings.LastIndexByte(name, '/')+1:], 10, 64)
	if err != nil {
		return status.Errorf(codes.InvalidArgument, "%q does not end with a size", name)
	}
	data := make([]byte, 1<<20)
	for left > 0 {
		n := min(left, int64(len(data)))
		if err := stream.Send(&bytestream.ReadResponse{Data: data[:n]}); err != nil {
			return err
		}
		left -= n
	}
	return nil
}

// FindMissingBlobs implements repb.ContentAddressableStorageServer: it has all.
func (*nullServer) FindMissingBlobs(context.Context, *repb.FindMissingBlobsRequest) (*repb.FindMissingBlobsResponse, error) {
	return &repb.FindMissingBlobsResponse{}, nil
}

// BatchUpdateBlobs implements repb.ContentAddressableStorageServer.
func (*nullServer) BatchUpdateBlobs(_ context.Context, req *repb.BatchUpdateBlobsRequest) (*repb.BatchUpdateBlobsResponse, error) {
	resp := &repb.BatchUpdateBlobsResponse{Responses: make([]*repb.BatchUpdateBlobsResponse_Response, len(req.GetRequests()))}
	for i, r := range req.GetRequests() {
		if sum := sha256.Sum256(r.GetData()); hex.EncodeToString(sum[:]) != r.GetDigest().GetHash() {
			return nil, status.Errorf(codes.InvalidArgument, "the bytes sent as %s are others", r.GetDigest().GetHash())
		}
		resp.Responses[i] = &repb.BatchUpdateBlobsResponse_Response{Digest: r.GetDigest(), Status: &statuspb.Status{}}
	}
	return resp, nil
}

// BatchReadBlobs implements repb.ContentAddressableStorageServer.
func (*nullServer) BatchReadBlobs(_ context.Context, req *repb.BatchReadBlobsRequest) (*repb.BatchReadBlobsResponse, error) {
	resp := &repb.BatchReadBlobsResponse{Responses: make([]*repb.BatchReadBlobsResponse_Response, len(req.GetDigests()))}
	data := make([]byte, 1<<20)
	for i, d := range req.GetDigests() {
		if size := d.GetSizeBytes(); size < 0 || size > int64(len(data)) {
			return nil, status.Errorf(codes.InvalidArgument, "a blob of %d bytes in a batch", size)
		}
		resp.Responses[i] = &repb.BatchReadBlobsResponse_Response{Digest: d, Data: data[:d.GetSizeBytes()], Status: &statuspb.Status{}}
	}
	return resp, nil
}

// GetCapabilities implements repb.CapabilitiesServer.
func (*nullServer) GetCapabilities(context.Context, *repb.GetCapabilitiesRequest) (*repb.ServerCapabilities, error) {
	return &repb.ServerCapabilities{CacheCapabilities: &repb.CacheCapabilities{DigestFunctions: []repb.DigestFunction_Value{repb.DigestFunction_SHA256}}}, nil
}
