package actioncache

import (
	"context"
	"errors"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"

	"github.com/hearth-build/hearth/cas"
)

// Cache maps the digest of an Action to its result. One Cache serves one
// instance name. Safe for concurrent use; each implementation passes
// testCache.
type Cache interface {
	// Get returns the result, which the caller owns. Absent: cas.ErrNotFound.
	Get(ctx context.Context, key cas.Digest) (*repb.ActionResult, error)
	// Put stores a result in place of any that is there, and counts as a use.
	// The caller keeps r. Full: cas.ErrNoSpace. ErrReadOnly where none is taken.
	Put(ctx context.Context, key cas.Digest, r *repb.ActionResult) error
}

// ErrReadOnly is what a cache says that takes no results, at least not from here.
// A Get that finds nothing may say so as well, besides cas.ErrNotFound.
var ErrReadOnly = errors.New("the action cache takes no results")
