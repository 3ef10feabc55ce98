package reapi

import (
	"context"
	"fmt"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/genproto/googleapis/rpc/status"

	"github.com/hearth-build/hearth/cas"
)

// perBlobOverhead is what a blob in a batch costs beside its bytes: digest,
// status and framing.
const perBlobOverhead = 200

type casServer struct {
	repb.UnimplementedContentAddressableStorageServer
	instances Instances
}

// FindMissingBlobs tells which blobs a client must upload.
func (s *casServer) FindMissingBlobs(ctx context.Context, req *repb.FindMissingBlobsRequest) (*repb.FindMissingBlobsResponse, error) {
	instance, err := s.instances.find(req.GetInstanceName())
	if err != nil {
		return nil, rpcError(err)
	}
	digests, err := parseDigests(req.GetDigestFunction(), req.GetBlobDigests())
	if err != nil {
		return nil, rpcError(err)
	}
	missing, err := instance.Store.FindMissing(ctx, digests)
	if err != nil {
		return nil, rpcError(err)
	}
	resp := &repb.FindMissingBlobsResponse{}
	for _, d := range missing {
		resp.MissingBlobDigests = append(resp.MissingBlobDigests, d.Proto())
	}
	return resp, nil
}

// parseDigests checks a list of digests, which must share a function.
func parseDigests(named repb.DigestFunction_Value, list []*repb.Digest) ([]cas.Digest, error) {
	digests := make([]cas.Digest, 0, len(list))
	for i, p := range list {
		d, err := cas.FromProto(named, p)
		if err != nil {
			return nil, fmt.Errorf("digest %d: %w", i, err)
		}
		if i > 0 && d.Function() != digests[0].Function() {
			return nil, fmt.Errorf("%w: digests of %v and %v in one request", errInvalid, digests[0].Function(), d.Function())
		}
		digests = append(digests, d)
	}
	return digests, nil
}

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
			Status: inline(update(ctx, instance.Store, req.GetDigestFunction(), r)),
		})
	}
	return resp, nil
}

func update(ctx context.Context, store cas.Store, named repb.DigestFunction_Value, r *repb.BatchUpdateBlobsRequest_Request) error {
	if r.GetCompressor() != repb.Compressor_IDENTITY {
		return fmt.Errorf("%w: compressor %v is not announced", errInvalid, r.GetCompressor())
	}
	d, err := cas.FromProto(named, r.GetDigest())
	if err != nil {
		return err
	}
	// A store need not read what it has, but a client must hear of its mistake.
	content := d.Function().Content(r.GetData())
	if content.Digest() != d {
		return fmt.Errorf("%w: the bytes sent as %v are %v", cas.ErrMismatch, d, content.Digest())
	}
	return store.Put(ctx, content)
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
	resp := &repb.BatchReadBlobsResponse{Responses: make([]*repb.BatchReadBlobsResponse_Response, 0, len(digests))}
	for _, d := range digests {
		data, err := cas.ReadAll(ctx, instance.Store, d, maxBatchBytes)
		resp.Responses = append(resp.Responses, &repb.BatchReadBlobsResponse_Response{
			Digest: d.Proto(), Data: data, Status: inline(err),
		})
	}
	return resp, nil
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
