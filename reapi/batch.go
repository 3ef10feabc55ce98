package reapi

import (
	"bytes"
	"context"
	"fmt"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/genproto/googleapis/rpc/status"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/reapi/access"
)

// perBlobOverhead is what a blob in a batch costs beside its bytes: digest,
// status and framing.
const perBlobOverhead = 200

// BatchUpdateBlobs stores small blobs, each on its own.
func (s *casServer) BatchUpdateBlobs(ctx context.Context, req *repb.BatchUpdateBlobsRequest) (*repb.BatchUpdateBlobsResponse, error) {
	instance, err := s.instances.find(ctx, req.GetInstanceName(), access.Upload)
	if err != nil {
		return nil, rpcError(err)
	}
	var batch batchSize
	for _, r := range req.GetRequests() {
		if err := batch.add(max(int64(len(r.GetData())), r.GetDigest().GetSizeBytes()), 0); err != nil {
			return nil, rpcError(err)
		}
	}
	list := make([]repb.BatchUpdateBlobsResponse_Response, len(req.GetRequests()))
	resp := &repb.BatchUpdateBlobsResponse{Responses: make([]*repb.BatchUpdateBlobsResponse_Response, len(list))}
	for i, status := range statuses(s.update(ctx, instance.Store, req)) {
		list[i].Digest, list[i].Status = req.GetRequests()[i].GetDigest(), status
		resp.Responses[i] = &list[i]
	}
	return resp, nil
}

// update stores what is right of a batch. Each entry has its own error.
func (s *casServer) update(ctx context.Context, store cas.Store, req *repb.BatchUpdateBlobsRequest) []error {
	errs := make([]error, len(req.GetRequests()))
	contents := make([]*cas.Content, 0, len(errs))
	entries := make([]int, 0, len(errs)) // whose contents they are
	whole := updateBytes(req)
	for i, r := range req.GetRequests() {
		content, err := s.content(req.GetDigestFunction(), r, whole)
		if errs[i] = err; err == nil {
			contents, entries = append(contents, content), append(entries, i)
		}
	}
	for i, err := range cas.PutAll(ctx, store, contents) {
		errs[entries[i]] = err
	}
	return errs
}

// content is what one entry sends of a batch that takes so many bytes in memory.
func (s *casServer) content(named repb.DigestFunction_Value, r *repb.BatchUpdateBlobsRequest_Request, whole int64) (*cas.Content, error) {
	d, err := cas.FromProto(named, r.GetDigest())
	if err != nil {
		return nil, err
	}
	if r.GetCompressor() == repb.Compressor_IDENTITY {
		content, err := cas.Verify(d, r.GetData())
		if err == nil {
			content.PartOf(whole)
		}
		return content, err
	}
	c, err := s.codecs.find(r.GetCompressor())
	if err != nil {
		return nil, err
	}
	return unpack(c, d, r.GetData())
}

// BatchReadBlobs returns small blobs.
func (s *casServer) BatchReadBlobs(ctx context.Context, req *repb.BatchReadBlobsRequest) (*repb.BatchReadBlobsResponse, error) {
	instance, err := s.instances.find(ctx, req.GetInstanceName(), access.Read)
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
	blobs, errs := cas.GetAll(ctx, instance.Store, digests)
	list := make([]repb.BatchReadBlobsResponse_Response, len(digests))
	resp := &repb.BatchReadBlobsResponse{Responses: make([]*repb.BatchReadBlobsResponse_Response, len(digests))}
	for i, status := range statuses(errs) {
		r := &list[i]
		r.Digest, r.Data, r.Status = req.GetDigests()[i], blobs[i], status
		s.compress(r, compressor)
		resp.Responses[i] = r
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

// statuses are those of the blobs of a batch. Those without an error share one.
func statuses(errs []error) []*status.Status {
	list, ok := make([]*status.Status, len(errs)), &status.Status{}
	for i, err := range errs {
		if list[i] = ok; err != nil {
			list[i] = newStatus(codeOf(err), err).Proto()
		}
	}
	return list
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
