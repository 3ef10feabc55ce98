package reapi

import (
	"context"
	"fmt"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/actioncache"
	"github.com/hearth-build/hearth/reapi/access"
)

type actionCacheServer struct {
	repb.UnimplementedActionCacheServer
	instances *doors
}

// GetActionResult returns a result all of whose blobs are there.
func (s *actionCacheServer) GetActionResult(ctx context.Context, req *repb.GetActionResultRequest) (*repb.ActionResult, error) {
	instance, err := s.instances.find(ctx, req.GetInstanceName(), access.Read)
	if err != nil {
		return nil, rpcError(err)
	}
	key, err := cas.FromProto(req.GetDigestFunction(), req.GetActionDigest())
	if err != nil {
		return nil, rpcError(fmt.Errorf("action_digest: %w", err))
	}
	result, err := instance.Results.Get(ctx, key)
	if err != nil {
		return nil, rpcError(err)
	}
	return withInlined(ctx, instance.Store, key.Function(), result, req), nil
}

// UpdateActionResult stores a client's own result.
func (s *actionCacheServer) UpdateActionResult(ctx context.Context, req *repb.UpdateActionResultRequest) (*repb.ActionResult, error) {
	instance, err := s.instances.find(ctx, req.GetInstanceName(), access.Write)
	if err != nil {
		return nil, rpcError(err)
	}
	key, err := cas.FromProto(req.GetDigestFunction(), req.GetActionDigest())
	if err != nil {
		return nil, rpcError(fmt.Errorf("action_digest: %w", err))
	}
	result := req.GetActionResult()
	if result == nil {
		return nil, rpcError(fmt.Errorf("%w: action_result is absent", errInvalid))
	}
	if err := actioncache.Validate(result, key.Function()); err != nil {
		return nil, rpcError(fmt.Errorf("%w: action_result: %w", errInvalid, err))
	}
	if err := takeInlined(ctx, instance.Store, key.Function(), result); err != nil {
		return nil, rpcError(err)
	}
	if err := instance.Results.Put(ctx, key, result); err != nil {
		return nil, rpcError(err)
	}
	return result, nil
}
