package e2e_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/genproto/googleapis/bytestream"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// What a client of its storage sees of a hearth, by the API alone.

func (h *hearth) dial(t *testing.T) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(strings.TrimPrefix(h.endpoint(t), "grpc://"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	return conn
}

func digestOf(data []byte) *repb.Digest {
	sum := sha256.Sum256(data)
	return &repb.Digest{Hash: hex.EncodeToString(sum[:]), SizeBytes: int64(len(data))}
}

// missing are those of the blobs that hearth says it lacks.
func (h *hearth) missing(t *testing.T, ds ...*repb.Digest) []*repb.Digest {
	t.Helper()
	resp, err := repb.NewContentAddressableStorageClient(h.dial(t)).FindMissingBlobs(t.Context(), &repb.FindMissingBlobsRequest{BlobDigests: ds})
	if err != nil {
		t.Fatal(err)
	}
	return resp.GetMissingBlobDigests()
}

// readBlob reads a blob, as far as it goes.
func (h *hearth) readBlob(t *testing.T, d *repb.Digest) (data []byte, err error) {
	t.Helper()
	stream, err := bytestream.NewByteStreamClient(h.dial(t)).Read(t.Context(),
		&bytestream.ReadRequest{ResourceName: fmt.Sprintf("blobs/%s/%d", d.GetHash(), d.GetSizeBytes())})
	for err == nil {
		var resp *bytestream.ReadResponse
		if resp, err = stream.Recv(); err == nil {
			data = append(data, resp.GetData()...)
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return data, err
}

// upload is a blob on its way, which takes its time.
type upload struct {
	digest *repb.Digest
	data   []byte
	name   string
	sent   int
	stream bytestream.ByteStream_WriteClient
}

func (h *hearth) beginUpload(t *testing.T, data []byte) *upload {
	t.Helper()
	stream, err := bytestream.NewByteStreamClient(h.dial(t)).Write(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	d := digestOf(data)
	return &upload{digest: d, data: data, stream: stream, name: fmt.Sprintf("uploads/%s/blobs/%s/%d", d.GetHash()[:8], d.GetHash(), d.GetSizeBytes())}
}

// send sends the blob up to a byte of it.
func (u *upload) send(upTo int) error {
	for u.sent < upTo {
		n := min(upTo-u.sent, 1<<20)
		err := u.stream.Send(&bytestream.WriteRequest{
			ResourceName: u.name, WriteOffset: int64(u.sent), Data: u.data[u.sent : u.sent+n], FinishWrite: u.sent+n == len(u.data),
		})
		if err != nil {
			return err
		}
		u.sent += n
	}
	return nil
}

// finish sends the rest and returns what the server says in the end.
func (u *upload) finish() error {
	if err := u.send(len(u.data)); err != nil && !errors.Is(err, io.EOF) { // which means that it has answered
		return err
	}
	resp, err := u.stream.CloseAndRecv()
	if err == nil && resp.GetCommittedSize() != u.digest.GetSizeBytes() {
		err = fmt.Errorf("%d of %d bytes are stored", resp.GetCommittedSize(), u.digest.GetSizeBytes())
	}
	return err
}
