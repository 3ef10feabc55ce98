package reapi

import (
	"context"
	"fmt"
	"io"

	"google.golang.org/genproto/googleapis/bytestream"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/reapi/access"
)

type byteStreamServer struct {
	bytestream.UnimplementedByteStreamServer
	instances *doors
	codecs    *codecs
	uploads   *uploads
	chunks    chunkPool
}

func newByteStreamServer(instances *doors, codecs *codecs, uploads *uploads) *byteStreamServer {
	return &byteStreamServer{instances: instances, codecs: codecs, uploads: uploads}
}

// Read streams a blob from read_offset on, which counts bytes of the blob also
// where they are sent compressed.
func (s *byteStreamServer) Read(req *bytestream.ReadRequest, stream bytestream.ByteStream_ReadServer) error {
	if log, ok := parseLog(req.GetResourceName()); ok {
		return rpcError(s.readLog(log, req, stream))
	}
	name, err := parseRead(req.GetResourceName())
	if err != nil {
		return rpcError(err)
	}
	instance, err := s.instances.find(stream.Context(), name.instance, access.Read)
	if err != nil {
		return rpcError(err)
	}
	offset, limit, size := req.GetReadOffset(), req.GetReadLimit(), name.digest.Size()
	switch {
	case offset < 0 || offset > size:
		return status.Errorf(codes.OutOfRange, "read_offset %d is outside the blob's %d bytes", offset, size)
	case limit < 0:
		return rpcError(fmt.Errorf("%w: read_limit %d is negative", errInvalid, limit))
	case limit != 0 && name.compressed():
		return rpcError(fmt.Errorf("%w: read_limit %d of a compressed blob", errInvalid, limit))
	case limit == 0 || limit > size-offset:
		limit = size - offset
	}
	blob, err := instance.Store.Get(stream.Context(), name.digest, offset)
	if err != nil {
		return rpcError(err)
	}
	defer blob.Close()
	if name.compressed() {
		return rpcError(s.sendCompressed(stream, name.compressor, blob, limit))
	}
	return s.send(stream, blob, limit)
}

// send sends exactly limit bytes of the blob.
func (s *byteStreamServer) send(stream messageSender, blob io.Reader, limit int64) error {
	for limit > 0 {
		chunk := s.chunks.Get(int(min(limit, chunkBytes)))
		n, err := io.ReadFull(blob, *chunk)
		if err != nil {
			s.chunks.Put(chunk)
			return rpcError(fmt.Errorf("read blob: %w", err))
		}
		if err := stream.SendMsg(&readMessage{mem.NewBuffer(chunk, &s.chunks)}); err != nil {
			return err
		}
		limit -= int64(n)
	}
	return nil
}

// Write stores a blob. It answers as soon as the outcome is known, which for a
// blob that is there already is at once.
func (s *byteStreamServer) Write(stream bytestream.ByteStream_WriteServer) error {
	in, err := receiveFirst(stream)
	if err != nil {
		return rpcError(err)
	}
	name, err := parseWrite(in.name)
	if err != nil {
		return rpcError(err)
	}
	instance, err := s.instances.find(stream.Context(), name.instance, access.Upload)
	if err != nil {
		return rpcError(err)
	}
	name.of = instance
	missing, err := instance.Store.FindMissing(stream.Context(), []cas.Digest{name.digest})
	if err != nil {
		return rpcError(err)
	}
	committed := name.committedWhole()
	switch {
	case len(missing) == 0:
	case name.compressed():
		committed, err = s.putCompressed(stream.Context(), instance.Store, name, in)
	default:
		committed, err = s.put(stream.Context(), instance.Store, name, in)
	}
	if err != nil {
		return rpcError(err)
	}
	return stream.SendAndClose(&bytestream.WriteResponse{CommittedSize: committed})
}

// put stores an identity upload, or goes on with one.
func (s *byteStreamServer) put(ctx context.Context, store cas.Putter, name resource, in *incoming) (int64, error) {
	if in.start() == 0 && in.finished { // nothing is left to break off
		s.uploads.yield(name)
		return name.digest.Size(), store.Put(ctx, cas.NewContent(name.digest, in))
	}
	call := newWriteCall(in)
	var u *upload
	var err error
	if in.start() == 0 {
		u, err = s.uploads.start(ctx, store, name, call)
	} else {
		u, err = s.uploads.resume(name, call)
	}
	if err != nil {
		return 0, err
	}
	return u.wait(ctx, call)
}

// QueryWriteStatus tells where to go on with an upload: at the start, unless
// the blob is there or a Write of the same name brought some of it.
func (s *byteStreamServer) QueryWriteStatus(ctx context.Context, req *bytestream.QueryWriteStatusRequest) (*bytestream.QueryWriteStatusResponse, error) {
	name, err := parseWrite(req.GetResourceName())
	if err != nil {
		return nil, rpcError(err)
	}
	instance, err := s.instances.find(ctx, name.instance, access.Upload)
	if err != nil {
		return nil, rpcError(err)
	}
	name.of = instance
	missing, err := instance.Store.FindMissing(ctx, []cas.Digest{name.digest})
	if err != nil {
		return nil, rpcError(err)
	}
	switch {
	case len(missing) == 0:
		return &bytestream.QueryWriteStatusResponse{CommittedSize: name.committedWhole(), Complete: true}, nil
	case name.compressed():
		return &bytestream.QueryWriteStatusResponse{}, nil
	default:
		return &bytestream.QueryWriteStatusResponse{CommittedSize: s.uploads.committed(name)}, nil
	}
}

// committedWhole is the committed_size of a blob that is there, whoever brought
// it: compressed it has no size that the client and the server agree on.
func (r resource) committedWhole() int64 {
	if r.compressed() {
		return -1
	}
	return r.digest.Size()
}
