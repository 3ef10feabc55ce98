package reapi

import (
	"context"
	"fmt"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/reapi/access"
)

type casServer struct {
	repb.UnimplementedContentAddressableStorageServer
	instances *doors
	codecs    *codecs
}

// FindMissingBlobs tells which blobs a client must upload.
func (s *casServer) FindMissingBlobs(ctx context.Context, req *repb.FindMissingBlobsRequest) (*repb.FindMissingBlobsResponse, error) {
	instance, err := s.instances.find(ctx, req.GetInstanceName(), access.Read)
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
	list := make([]repb.Digest, len(missing))
	resp := &repb.FindMissingBlobsResponse{MissingBlobDigests: make([]*repb.Digest, len(missing))}
	for i, d := range missing {
		list[i].Hash, list[i].SizeBytes = d.Hash(), d.Size()
		resp.MissingBlobDigests[i] = &list[i]
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
