package reapi

import (
	"context"
	"errors"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"github.com/bazelbuild/remote-apis/build/bazel/semver"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/tree"
	"github.com/hearth-build/hearth/reapi/access"
)

// maxBatchBytes bounds the blobs of one batch, so that they fit with their
// overhead into the 4 MiB that clients are ready to receive.
const maxBatchBytes = 4<<20 - 256<<10

// priorityRange is what clients may ask for; lower is sooner.
const priorityRange = 1_000_000

type capabilitiesServer struct {
	repb.UnimplementedCapabilitiesServer
	instances *doors
}

// GetCapabilities implements the Capabilities service.
func (s *capabilitiesServer) GetCapabilities(ctx context.Context, req *repb.GetCapabilitiesRequest) (*repb.ServerCapabilities, error) {
	instance, err := s.instances.find(ctx, req.GetInstanceName(), access.Read)
	if err != nil {
		return nil, rpcError(err)
	}
	caller, err := access.FromContext(ctx)
	if err != nil {
		return nil, rpcError(err)
	}
	limits, err := limitsOf(ctx, instance.Store)
	if err != nil {
		return nil, rpcError(err)
	}
	functions := make([]repb.DigestFunction_Value, 0, len(limits.Functions))
	for _, f := range limits.Functions {
		functions = append(functions, f.Proto())
	}
	priorities := &repb.PriorityCapabilities{Priorities: []*repb.PriorityCapabilities_PriorityRange{
		{MinPriority: -priorityRange, MaxPriority: priorityRange},
	}}
	c := &repb.ServerCapabilities{
		CacheCapabilities: &repb.CacheCapabilities{
			DigestFunctions:                 functions,
			ActionCacheUpdateCapabilities:   &repb.ActionCacheUpdateCapabilities{UpdateEnabled: caller.May(access.Write, req.GetInstanceName())},
			CachePriorityCapabilities:       priorities,
			MaxBatchTotalSizeBytes:          maxBatchBytes,
			SymlinkAbsolutePathStrategy:     repb.SymlinkAbsolutePathStrategy_ALLOWED,
			SupportedCompressors:            compressors(),
			SupportedBatchUpdateCompressors: compressors(),
			MaxCasBlobSizeBytes:             limits.MaxBytes,
		},
		ExecutionCapabilities: &repb.ExecutionCapabilities{
			// Old clients compare the singular field with their own function.
			DigestFunction:                functions[0],
			DigestFunctions:               functions,
			ExecEnabled:                   caller.May(access.Execute, req.GetInstanceName()),
			ExecutionPriorityCapabilities: priorities,
			SupportedNodeProperties:       tree.NodeProperties(),
		},
		// Bazel 4 to 7 speak 2.0 and refuse a server that does not. From 2.13 on,
		// chunks would have to be mapped by streams instead of SplitBlob.
		LowApiVersion:  &semver.SemVer{Major: 2, Minor: 0},
		HighApiVersion: &semver.SemVer{Major: 2, Minor: 12},
	}
	chunkingCapabilities(c.CacheCapabilities)
	return c, nil
}

// limitsOf is what a store takes: all that hearth knows and that it has room for,
// unless it says otherwise.
func limitsOf(ctx context.Context, store cas.Store) (cas.Limits, error) {
	l, ok := store.(cas.Limiter)
	if !ok {
		return cas.Limits{Functions: cas.Functions()}, nil
	}
	limits, err := l.Limits(ctx)
	if err == nil && len(limits.Functions) == 0 {
		err = errors.New("the store that this server uses serves no digest function that hearth knows: choose another --cas")
	}
	return limits, err
}
