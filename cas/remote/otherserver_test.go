package remote_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/genproto/googleapis/bytestream"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/remote"
)

// otherServer is a ByteStream service with the habits of others: it breaks the
// first stream off, and says and does with the next ones what a test wants.
type otherServer struct {
	bytestream.UnimplementedByteStreamServer
	query      func() (*bytestream.QueryWriteStatusResponse, error)
	resume     error // what a stream gets that begins behind 0
	breakAfter int   // bytes; 0: 1 MiB
	answer     int64 // committed_size of a stream that is whole, less than its size

	mu      sync.Mutex // guards all below
	streams int
	got     []byte
}

const breakAfter = 1 << 20

func (o *otherServer) QueryWriteStatus(context.Context, *bytestream.QueryWriteStatusRequest) (*bytestream.QueryWriteStatusResponse, error) {
	return o.query()
}

func (o *otherServer) Write(stream bytestream.ByteStream_WriteServer) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.streams++
	for first := true; ; first = false {
		req, err := stream.Recv()
		if err != nil {
			return err
		}
		if first && req.GetWriteOffset() > 0 && o.resume != nil {
			return o.resume
		}
		o.got = append(o.got[:req.GetWriteOffset()], req.GetData()...)
		switch {
		case o.streams == 1 && len(o.got) > max(o.breakAfter, breakAfter):
			return status.Error(codes.Unavailable, "the machine restarts")
		case req.GetFinishWrite():
			return stream.SendAndClose(&bytestream.WriteResponse{CommittedSize: int64(len(o.got)) - o.answer})
		}
	}
}

func dialOther(t *testing.T, o bytestream.ByteStreamServer) *remote.Store {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	bytestream.RegisterByteStreamServer(server, o)
	repb.RegisterContentAddressableStorageServer(server, absentEverything{})
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return dial(t, "grpc://"+listener.Addr().String(), &calls{}, quick())
}

func committed(n int64) func() (*bytestream.QueryWriteStatusResponse, error) {
	return func() (*bytestream.QueryWriteStatusResponse, error) {
		return &bytestream.QueryWriteStatusResponse{CommittedSize: n}, nil
	}
}

func failing(code codes.Code) func() (*bytestream.QueryWriteStatusResponse, error) {
	return func() (*bytestream.QueryWriteStatusResponse, error) { return nil, status.Error(code, "no") }
}

// REAPI D10, D25-D27: servers differ in how an upload that broke off goes on.
func TestUploadToOtherServers(t *testing.T) {
	data := random(30, 6<<20)
	local := newMemory()
	d := put(t, local, data)
	for name, tc := range map[string]struct {
		server  *otherServer
		streams int // 0: it fails
	}{
		"goes on":                  {&otherServer{query: committed(breakAfter)}, 2},
		"goes on with less":        {&otherServer{query: committed(1000)}, 2},
		"keeps nothing":            {&otherServer{query: committed(0)}, 2},
		"does not know the upload": {&otherServer{query: failing(codes.NotFound)}, 2},
		"cannot be asked":          {&otherServer{query: failing(codes.Unimplemented)}, 2},
		"says nonsense":            {&otherServer{query: committed(-1)}, 2},
		"says more nonsense":       {&otherServer{query: committed(1 << 40)}, 2},
		"does not do as it said":   {&otherServer{query: onceThen(committed(breakAfter), committed(0)), resume: status.Error(codes.InvalidArgument, "write_offset")}, 3},
		"never does as it said":    {&otherServer{query: committed(breakAfter), resume: status.Error(codes.OutOfRange, "write_offset")}, 0},
		"is done, by somebody else": {&otherServer{query: func() (*bytestream.QueryWriteStatusResponse, error) {
			return &bytestream.QueryWriteStatusResponse{Complete: true}, nil
		}}, 1},
		"refuses to tell":             {&otherServer{query: failing(codes.PermissionDenied)}, 0},
		"takes all but claims it not": {&otherServer{query: committed(0), answer: 1}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			store := dialOther(t, tc.server)
			err := store.Upload(t.Context(), d, local)
			if (err == nil) != (tc.streams > 0) {
				t.Fatalf("got %v", err)
			}
			tc.server.mu.Lock()
			defer tc.server.mu.Unlock()
			if err == nil && tc.server.streams != tc.streams {
				t.Errorf("%d streams", tc.server.streams)
			}
			if tc.streams > 1 && !bytes.Equal(tc.server.got, data) {
				t.Error("other bytes came")
			}
		})
	}
}

func onceThen(first, then func() (*bytestream.QueryWriteStatusResponse, error)) func() (*bytestream.QueryWriteStatusResponse, error) {
	var once sync.Once
	return func() (resp *bytestream.QueryWriteStatusResponse, err error) {
		resp, err = then()
		once.Do(func() { resp, err = first() })
		return resp, err
	}
}

// Of what can be read once the last bytes are kept: a server that lost more than
// those makes the caller send the blob again.
func TestPutToForgetfulServer(t *testing.T) {
	for size, ok := range map[int]bool{3 << 20: true, 16 << 20: false} {
		data := random(31, size)
		server := &otherServer{query: committed(0), breakAfter: size - 1<<20}
		store := dialOther(t, server)
		err := store.Put(t.Context(), cas.Checked(cas.SHA256.Sum(data), data))
		if (err == nil) != ok || !ok && (!errors.Is(err, cas.ErrUnavailable) || !strings.Contains(err.Error(), "send the blob again")) {
			t.Errorf("%d bytes: got %v", size, err)
		}
		if ok && !bytes.Equal(server.got, data) {
			t.Errorf("%d bytes: other bytes came", size)
		}
	}
}

// absentEverything says that every blob is missing.
type absentEverything struct {
	repb.UnimplementedContentAddressableStorageServer
}

func (absentEverything) FindMissingBlobs(_ context.Context, req *repb.FindMissingBlobsRequest) (*repb.FindMissingBlobsResponse, error) {
	return &repb.FindMissingBlobsResponse{MissingBlobDigests: req.GetBlobDigests()}, nil
}
