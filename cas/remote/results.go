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
	what := fmt.Sprintf("look up the result of action %v", key)
	a, err := r.serves(ctx, what, key)
	if err != nil {
		return nil, err
	}
	err = r.store.retry(ctx, func(ctx context.Context) (err error) {
		result, err = r.store.results.GetActionResult(ctx, &repb.GetActionResultRequest{
			InstanceName: r.store.options.Instance, ActionDigest: key.Proto(), DigestFunction: key.Function().Proto(),
		}, r.store.callOptions...)
		return err
	})
	absent := cas.ErrNotFound
	if a.readOnly {
		absent = fmt.Errorf("%w: %w", absent, actioncache.ErrReadOnly)
		if unsupported(err) { // a store of blobs alone
			return nil, fmt.Errorf("%s: %w", what, absent)
		}
	}
	return result, explain(ctx, what, absent, err)
}

// Put implements actioncache.Cache.
func (r *Results) Put(ctx context.Context, key cas.Digest, result *repb.ActionResult) error {
	what := fmt.Sprintf("store the result of action %v", key)
	a, err := r.serves(ctx, what, key)
	if err != nil {
		return err
	}
	if a.readOnly {
		return fmt.Errorf("%s: %w", what, actioncache.ErrReadOnly)
	}
	err = r.store.retry(ctx, func(ctx context.Context) error {
		_, err := r.store.results.UpdateActionResult(ctx, &repb.UpdateActionResultRequest{
			InstanceName: r.store.options.Instance, ActionDigest: key.Proto(), ActionResult: result, DigestFunction: key.Function().Proto(),
		}, r.store.callOptions...)
		return err
	})
	return explain(ctx, what, cas.ErrNotFound, err)
}

func (r *Results) serves(ctx context.Context, what string, key cas.Digest) (*announced, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	a, err := r.store.serves(ctx, key)
	return a, explain(ctx, what, nil, err)
}
