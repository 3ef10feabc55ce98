package reapi

import (
	"bytes"
	"context"
	"fmt"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/genproto/googleapis/rpc/status"

	"github.com/hearth-build/hearth/cas"
)

// perBlobOverhead is what a blob in a batch costs beside its bytes: digest,
// status and framing.
const perBlobOverhead = 200

// BatchUpdateBlobs stores small blobs, each on its own.
func (s *casServer) BatchUpdateBlobs(ctx context.Context, req *repb.BatchUpdateBlobsRequest) (*repb.BatchUpdateBlobsResponse, error) {
	instance, err := s.instances.find(req.GetInstanceName())
	if err != nil {
		return nil, rpcError(err)
	}
	var batch batchSize
	for _, r := range req.GetRequests() {
		if err := batch.add(max(int64(len(r.GetData())), r.GetDigest().GetSizeBytes()), 0); err != nil {
			return nil, rpcError(err)
		}
	}
	resp := &repb.BatchUpdateBlobsResponse{Responses: make([]*repb.BatchUpdateBlobsResponse_Response, 0, len(req.GetRequests()))}
	for _, r := range req.GetRequests() {
		resp.Responses = append(resp.Responses, &repb.BatchUpdateBlobsResponse_Response{
			Digest: r.GetDigest(),
			Status: inline(s.update(ctx, instance.Store, req.GetDigestFunction(), r)),
		})
	}
	return resp, nil
}

func (s *casServer) update(ctx context.Context, store cas.Store, named repb.DigestFunction_Value, r *repb.BatchUpdateBlobsRequest_Request) error {
	d, err := cas.FromProto(named, r.GetDigest())
	if err != nil {
		return err
	}
	content, err := s.content(d, r)
	if err != nil {
		return err
	}
	return store.Put(ctx, content)
}

// content is what one entry of a batch sends.
func (s *casServer) content(d cas.Digest, r *repb.BatchUpdateBlobsRequest_Request) (*cas.Content, error) {
	if r.GetCompressor() == repb.Compressor_IDENTITY {
		return matching(d, r.GetData())
	}
	c, err := s.codecs.find(r.GetCompressor())
	if err != nil {
		return nil, err
	}
	return unpack(c, d, r.GetData())
}

// BatchReadBlobs returns small blobs.
func (s *casServer) BatchReadBlobs(ctx context.Context, req *repb.BatchReadBlobsRequest) (*repb.BatchReadBlobsResponse, error) {
	instance, err := s.instances.find(req.GetInstanceName())
	if err != nil {
		return nil, rpcError(err)
	}
	digests, err := parseDigests(req.GetDigestFunction(), req.GetDigests())
	if err != nil {
		return nil, rpcError(err)
	}
	var batch batchSize
	for _, d := range digests {
		if err := batch.add(d.Size(), perBlobOverhead); err != nil {
			return nil, rpcError(err)
		}
	}
	compressor := choose(req.GetAcceptableCompressors())
	resp := &repb.BatchReadBlobsResponse{Responses: make([]*repb.BatchReadBlobsResponse_Response, 0, len(digests))}
	for _, d := range digests {
		data, err := cas.ReadAll(ctx, instance.Store, d, maxBatchBytes)
		r := &repb.BatchReadBlobsResponse_Response{Digest: d.Proto(), Data: data, Status: inline(err)}
		s.compress(r, compressor)
		resp.Responses = append(resp.Responses, r)
	}
	return resp, nil
}

// minPacked is the size from which a blob of a batch can gain from compression.
const minPacked = 128

// compress compresses a blob of a batch if that makes it smaller.
func (s *casServer) compress(r *repb.BatchReadBlobsResponse_Response, compressor repb.Compressor_Value) {
	if compressor == repb.Compressor_IDENTITY || len(r.GetData()) < minPacked {
		return
	}
	c, err := s.codecs.find(compressor)
	if err != nil {
		return // choose knows no other
	}
	packed := bytes.NewBuffer(make([]byte, 0, len(r.GetData())))
	if err := c.encode(packed, bytes.NewReader(r.GetData()), int64(len(r.GetData()))); err != nil || packed.Len() >= len(r.GetData()) {
		return // as it is, which every client accepts
	}
	r.Data, r.Compressor = packed.Bytes(), compressor
}

// inline is the status of one blob of a batch.
func inline(err error) *status.Status {
	if err == nil {
		return &status.Status{}
	}
	return newStatus(codeOf(err), err).Proto()
}

// batchSize adds up a batch without overflowing.
type batchSize struct{ blobs, overhead int64 }

// maxReplyBytes is what a client is ready to receive, with some room.
const maxReplyBytes = 4<<20 - 8<<10

func (b *batchSize) add(blob, overhead int64) error {
	if blob > maxBatchBytes-b.blobs || b.blobs+blob+b.overhead+overhead > maxReplyBytes {
		return fmt.Errorf("%w: the batch is larger than max_batch_total_size_bytes (%d) or has too many blobs; use ByteStream or several batches",
			errInvalid, int64(maxBatchBytes))
	}
	b.blobs += max(0, blob)
	b.overhead += overhead
	return nil
}
