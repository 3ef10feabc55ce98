package reapi

import (
	"context"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"github.com/bazelbuild/remote-apis/build/bazel/semver"

	"github.com/hearth-build/hearth/cas"
)

// maxBatchBytes bounds the blobs of one batch, so that they fit with their
// overhead into the 4 MiB that clients are ready to receive.
const maxBatchBytes = 4<<20 - 256<<10

// priorityRange is what clients may ask for; lower is sooner.
const priorityRange = 1_000_000

type capabilitiesServer struct {
	repb.UnimplementedCapabilitiesServer
	instances Instances
}

// GetCapabilities implements the Capabilities service.
func (s *capabilitiesServer) GetCapabilities(_ context.Context, req *repb.GetCapabilitiesRequest) (*repb.ServerCapabilities, error) {
	if _, err := s.instances.find(req.GetInstanceName()); err != nil {
		return nil, rpcError(err)
	}
	var functions []repb.DigestFunction_Value
	for _, f := range cas.Functions() {
		functions = append(functions, f.Proto())
	}
	priorities := &repb.PriorityCapabilities{Priorities: []*repb.PriorityCapabilities_PriorityRange{
		{MinPriority: -priorityRange, MaxPriority: priorityRange},
	}}
	c := &repb.ServerCapabilities{
		CacheCapabilities: &repb.CacheCapabilities{
			DigestFunctions:                 functions,
			ActionCacheUpdateCapabilities:   &repb.ActionCacheUpdateCapabilities{UpdateEnabled: true},
			CachePriorityCapabilities:       priorities,
			MaxBatchTotalSizeBytes:          maxBatchBytes,
			SymlinkAbsolutePathStrategy:     repb.SymlinkAbsolutePathStrategy_ALLOWED,
			SupportedCompressors:            compressors(),
			SupportedBatchUpdateCompressors: compressors(),
			MaxCasBlobSizeBytes:             0, // none but what the store has room for
		},
		ExecutionCapabilities: &repb.ExecutionCapabilities{
			// Old clients compare the singular field with their own function.
			DigestFunction:                cas.SHA256.Proto(),
			DigestFunctions:               functions,
			ExecEnabled:                   true,
			ExecutionPriorityCapabilities: priorities,
		},
		// Bazel 4 to 7 speak 2.0 and refuse a server that does not. From 2.13 on,
		// chunks would have to be mapped by streams instead of SplitBlob.
		LowApiVersion:  &semver.SemVer{Major: 2, Minor: 0},
		HighApiVersion: &semver.SemVer{Major: 2, Minor: 12},
	}
	chunkingCapabilities(c.CacheCapabilities)
	return c, nil
}
