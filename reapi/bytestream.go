package reapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"google.golang.org/genproto/googleapis/bytestream"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/hearth-build/hearth/cas"
)

// chunkBytes is how much of a blob one message carries: large enough that the
// message costs little, far below the 4 MiB that clients are ready to receive.
const chunkBytes = 512 << 10

type byteStreamServer struct {
	bytestream.UnimplementedByteStreamServer
	instances Instances
	chunks    sync.Pool // of *[]byte with chunkBytes
}

func newByteStreamServer(instances Instances) *byteStreamServer {
	return &byteStreamServer{
		instances: instances,
		chunks:    sync.Pool{New: func() any { b := make([]byte, chunkBytes); return &b }},
	}
}

// Read streams a blob from read_offset on.
func (s *byteStreamServer) Read(req *bytestream.ReadRequest, stream bytestream.ByteStream_ReadServer) error {
	name, err := parseRead(req.GetResourceName())
	if err != nil {
		return rpcError(err)
	}
	instance, err := s.instances.find(name.instance)
	if err != nil {
		return rpcError(err)
	}
	offset, limit, size := req.GetReadOffset(), req.GetReadLimit(), name.digest.Size()
	switch {
	case offset < 0 || offset > size:
		return status.Errorf(codes.OutOfRange, "read_offset %d is outside the blob's %d bytes", offset, size)
	case limit < 0:
		return rpcError(fmt.Errorf("%w: read_limit %d is negative", errInvalid, limit))
	case limit == 0 || limit > size-offset:
		limit = size - offset
	}
	blob, err := instance.Store.Get(stream.Context(), name.digest, offset)
	if err != nil {
		return rpcError(err)
	}
	defer blob.Close()
	return s.send(stream, blob, limit)
}

// send sends exactly limit bytes of the blob.
func (s *byteStreamServer) send(stream bytestream.ByteStream_ReadServer, blob io.Reader, limit int64) error {
	chunk := s.chunks.Get().(*[]byte)
	defer s.chunks.Put(chunk)
	for limit > 0 {
		n, err := io.ReadFull(blob, (*chunk)[:min(limit, chunkBytes)])
		if n > 0 {
			// Send has encoded the message when it returns, so the chunk is free.
			if err := stream.Send(&bytestream.ReadResponse{Data: (*chunk)[:n]}); err != nil {
				return err
			}
			limit -= int64(n)
		}
		if err != nil && limit > 0 {
			return rpcError(fmt.Errorf("read blob: %w", err))
		}
	}
	return nil
}

// Write stores a blob. It answers as soon as the outcome is known, which for a
// blob that is there already is at once.
func (s *byteStreamServer) Write(stream bytestream.ByteStream_WriteServer) error {
	first, err := stream.Recv()
	if errors.Is(err, io.EOF) {
		return rpcError(fmt.Errorf("%w: the stream has no message", errInvalid))
	}
	if err != nil {
		return err
	}
	name, err := parseWrite(first.GetResourceName())
	if err != nil {
		return rpcError(err)
	}
	instance, err := s.instances.find(name.instance)
	if err != nil {
		return rpcError(err)
	}
	if first.GetWriteOffset() != 0 {
		return rpcError(fmt.Errorf("%w: write_offset %d: uploads start at 0 here, as QueryWriteStatus says", errInvalid, first.GetWriteOffset()))
	}
	if missing, err := instance.Store.FindMissing(stream.Context(), []cas.Digest{name.digest}); err != nil {
		return rpcError(err)
	} else if len(missing) > 0 {
		if err := instance.Store.Put(stream.Context(), cas.NewContent(name.digest, newUpload(stream, first))); err != nil {
			return rpcError(err)
		}
	}
	return stream.SendAndClose(&bytestream.WriteResponse{CommittedSize: name.digest.Size()})
}

// QueryWriteStatus tells where to go on with an upload: at the start, unless
// the blob is there.
func (s *byteStreamServer) QueryWriteStatus(ctx context.Context, req *bytestream.QueryWriteStatusRequest) (*bytestream.QueryWriteStatusResponse, error) {
	name, err := parseWrite(req.GetResourceName())
	if err != nil {
		return nil, rpcError(err)
	}
	instance, err := s.instances.find(name.instance)
	if err != nil {
		return nil, rpcError(err)
	}
	missing, err := instance.Store.FindMissing(ctx, []cas.Digest{name.digest})
	if err != nil {
		return nil, rpcError(err)
	}
	if len(missing) > 0 {
		return &bytestream.QueryWriteStatusResponse{}, nil
	}
	return &bytestream.QueryWriteStatusResponse{CommittedSize: name.digest.Size(), Complete: true}, nil
}

// upload is the data of a Write stream as a reader. Its io.EOF means that the
// client said that it has finished.
type upload struct {
	stream   bytestream.ByteStream_WriteServer
	name     string
	data     []byte // received, not read yet
	offset   int64  // where the next message must go on
	finished bool
}

func newUpload(stream bytestream.ByteStream_WriteServer, first *bytestream.WriteRequest) *upload {
	return &upload{
		stream:   stream,
		name:     first.GetResourceName(),
		data:     first.GetData(),
		offset:   int64(len(first.GetData())),
		finished: first.GetFinishWrite(),
	}
}

// Read implements io.Reader.
func (u *upload) Read(p []byte) (int, error) {
	for len(u.data) == 0 {
		if u.finished {
			return 0, io.EOF
		}
		if err := u.receive(); err != nil {
			return 0, err
		}
	}
	n := copy(p, u.data)
	u.data = u.data[n:]
	return n, nil
}

func (u *upload) receive() error {
	req, err := u.stream.Recv()
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: the upload ended after %d bytes without finish_write", errInvalid, u.offset)
	}
	if err != nil {
		return err
	}
	if name := req.GetResourceName(); name != "" && name != u.name {
		return fmt.Errorf("%w: the resource name changed in the middle to %q", errInvalid, clip(name))
	}
	if req.GetWriteOffset() != u.offset {
		return fmt.Errorf("%w: write_offset %d, but %d bytes came before", errInvalid, req.GetWriteOffset(), u.offset)
	}
	u.data, u.finished = req.GetData(), req.GetFinishWrite()
	u.offset += int64(len(u.data))
	return nil
}
