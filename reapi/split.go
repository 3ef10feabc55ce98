package reapi

import (
	"context"
	"fmt"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/chunking"
	"github.com/hearth-build/hearth/reapi/access"
)

// The parameters of the chunking functions, for all instances alike. They are
// those that the API recommends and that clients fall back to: a client that cut
// by others would find none of our chunks.
const (
	fastCDCAverage   = 512 << 10
	fastCDCSeed      = 0
	repMaxCDCMin     = 256 << 10
	repMaxCDCHorizon = 8 * repMaxCDCMin
)

// maxChunks is how many chunks a blob may be spliced from: more than fit with
// SHA-256 into a message that is received here, and 50 GB of usual chunks.
const maxChunks = 100_000

// chunkServer is the CAS with what moves large blobs in chunks.
type chunkServer struct {
	*casServer
	fastCDC, repMaxCDC *chunking.Splitter
}

var _ repb.ContentAddressableStorageServer = (*chunkServer)(nil)

func newChunkServer(base *casServer) (*chunkServer, error) {
	fastCDC, err := chunking.NewFastCDC(chunking.FastCDCParams{
		Min: fastCDCAverage / 4, Avg: fastCDCAverage, Max: fastCDCAverage * 4, Seed: fastCDCSeed,
	})
	if err != nil {
		return nil, err
	}
	repMaxCDC, err := chunking.NewRepMaxCDC(chunking.RepMaxCDCParams{Min: repMaxCDCMin, Horizon: repMaxCDCHorizon})
	if err != nil {
		return nil, err
	}
	return &chunkServer{
		casServer: base,
		fastCDC:   chunking.NewSplitter(fastCDC),
		repMaxCDC: chunking.NewSplitter(repMaxCDC),
	}, nil
}

// chunkingCapabilities tells clients how to cut blobs as this server does.
func chunkingCapabilities(c *repb.CacheCapabilities) {
	c.SplitBlobSupport = true
	c.SpliceBlobSupport = true
	c.FastCdc_2020Params = &repb.FastCdc2020Params{AvgChunkSizeBytes: fastCDCAverage, Seed: fastCDCSeed}
	c.RepMaxCdcParams = &repb.RepMaxCdcParams{MinChunkSizeBytes: repMaxCDCMin, HorizonSizeBytes: repMaxCDCHorizon}
}

// SplitBlob returns the chunks of a blob, of which the client may have some. Any
// blob can be split, whoever made it, and is when it is asked for. Blobs of some
// 30 GB have more chunks than fit into the 4 MiB that clients receive by default,
// which the API leaves to later versions.
func (s *chunkServer) SplitBlob(ctx context.Context, req *repb.SplitBlobRequest) (*repb.SplitBlobResponse, error) {
	instance, err := s.instances.find(ctx, req.GetInstanceName(), access.Read)
	if err != nil {
		return nil, rpcError(err)
	}
	blob, err := cas.FromProto(req.GetDigestFunction(), req.GetBlobDigest())
	if err != nil {
		return nil, rpcError(fmt.Errorf("blob_digest: %w", err))
	}
	// The client names a preference. A function that is not known here has to give
	// way to the usual one.
	splitter, used := s.fastCDC, repb.ChunkingFunction_FAST_CDC_2020
	if req.GetChunkingFunction() == repb.ChunkingFunction_REP_MAX_CDC {
		splitter, used = s.repMaxCDC, repb.ChunkingFunction_REP_MAX_CDC
	}
	chunks, err := splitter.Split(ctx, instance.Store, blob)
	if err != nil {
		return nil, rpcError(err)
	}
	resp := &repb.SplitBlobResponse{ChunkDigests: make([]*repb.Digest, 0, len(chunks)), ChunkingFunction: used}
	for _, c := range chunks {
		resp.ChunkDigests = append(resp.ChunkDigests, c.Proto())
	}
	return resp, nil
}

// SpliceBlob stores a blob of which the client has uploaded the chunks. How the
// client cut it does not matter: that they make up the blob is checked by its hash.
func (s *chunkServer) SpliceBlob(ctx context.Context, req *repb.SpliceBlobRequest) (*repb.SpliceBlobResponse, error) {
	instance, err := s.instances.find(ctx, req.GetInstanceName(), access.Upload)
	if err != nil {
		return nil, rpcError(err)
	}
	if n := len(req.GetChunkDigests()); n > maxChunks {
		return nil, rpcError(fmt.Errorf("%w: %d chunks, at most %d are spliced here: cut larger ones, or use ByteStream", errInvalid, n, maxChunks))
	}
	blob, err := cas.FromProto(req.GetDigestFunction(), req.GetBlobDigest())
	if err != nil {
		return nil, rpcError(fmt.Errorf("blob_digest: %w", err))
	}
	chunks, err := parseDigests(blob.Function().Proto(), req.GetChunkDigests())
	if err != nil {
		return nil, rpcError(fmt.Errorf("chunk_digests: %w", err))
	}
	if err := chunking.Splice(ctx, instance.Store, blob, chunks); err != nil {
		return nil, rpcError(err)
	}
	return &repb.SpliceBlobResponse{BlobDigest: blob.Proto()}, nil
}
