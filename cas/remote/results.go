package remote

import (
	"context"
	"fmt"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/actioncache"
)

// Results is the action cache beside a Store.
type Results struct{ store *Store }

var _ actioncache.Cache = (*Results)(nil)

// Results returns the action cache of the same server and instance name.
func (s *Store) Results() *Results { return &Results{s} }

// Get implements actioncache.Cache.
func (r *Results) Get(ctx context.Context, key cas.Digest) (result *repb.ActionResult, err error) {
	err = r.call(ctx, "look up", key, func(ctx context.Context) (err error) {
		result, err = r.store.results.GetActionResult(ctx, &repb.GetActionResultRequest{
			InstanceName: r.store.options.Instance, ActionDigest: key.Proto(), DigestFunction: key.Function().Proto(),
		}, r.store.callOptions...)
		return err
	})
	return result, err
}

// Put implements actioncache.Cache.
func (r *Results) Put(ctx context.Context, key cas.Digest, result *repb.ActionResult) error {
	return r.call(ctx, "store", key, func(ctx context.Context) error {
		_, err := r.store.results.UpdateActionResult(ctx, &repb.UpdateActionResultRequest{
			InstanceName: r.store.options.Instance, ActionDigest: key.Proto(), ActionResult: result, DigestFunction: key.Function().Proto(),
		}, r.store.callOptions...)
		return err
	})
}

func (r *Results) call(ctx context.Context, operation string, key cas.Digest, call func(ctx context.Context) error) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	_, err := r.store.serves(ctx, key)
	if err == nil {
		err = r.store.retry(ctx, call)
	}
	return explain(ctx, fmt.Sprintf("%s the result of action %v", operation, key), cas.ErrNotFound, err)
}
