package actioncache

import (
	"context"
	"errors"
	"fmt"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"

	"github.com/hearth-build/hearth/cas"
)

// complete hides results whose blobs are gone.
type complete struct {
	Cache
	store cas.Store
}

// Complete returns a Cache that gives out a result only if every blob that it
// names is in the store now, and restarts the eviction age of them all: clients
// that do not download outputs rely on finding them later. A result whose trees
// are gone, malformed or larger than 64 MiB together counts as absent.
func Complete(base Cache, store cas.Store) Cache { return &complete{base, store} }

// errIncomplete: the result names what is absent or senseless.
var errIncomplete = errors.New("incomplete result")

// Get implements Cache.
func (c *complete) Get(ctx context.Context, key cas.Digest) (*repb.ActionResult, error) {
	r, err := c.Cache.Get(ctx, key)
	if err != nil {
		return nil, err
	}
	err = c.check(ctx, r, key.Function())
	if errors.Is(err, errIncomplete) || errors.Is(err, cas.ErrNotFound) {
		// Told, not wrapped: what the caller asked for is the result, and he must
		// not take the blobs that it lacks for something to upload.
		return nil, fmt.Errorf("%w: no complete result of action %v: %v", cas.ErrNotFound, key, err)
	}
	if err != nil {
		return nil, fmt.Errorf("check the result of action %v: %w", key, err)
	}
	return r, nil
}

// check asks the store for the blobs that the result names itself, then for all
// that its trees name.
func (c *complete) check(ctx context.Context, r *repb.ActionResult, f cas.Function) error {
	direct, err := references(r, f)
	if err != nil {
		return err
	}
	if err := c.find(ctx, direct.all()); err != nil {
		return err
	}
	w := treeWalk{store: c.store, function: f, left: maxTreeBytes}
	for _, d := range direct.trees {
		if err := w.tree(ctx, d); err != nil {
			return err
		}
	}
	if err := w.directories(ctx, direct.roots); err != nil {
		return err
	}
	return c.find(ctx, w.files)
}

func (c *complete) find(ctx context.Context, ds []cas.Digest) error {
	if len(ds) == 0 {
		return nil
	}
	missing, err := c.store.FindMissing(ctx, ds)
	if err != nil {
		return err
	}
	if len(missing) > 0 {
		return fmt.Errorf("%w: %w", errIncomplete, &cas.MissingError{Digests: missing})
	}
	return nil
}

// named are the blobs that a result names itself.
type named struct{ files, trees, roots []cas.Digest }

func (n named) all() []cas.Digest {
	all := make([]cas.Digest, 0, len(n.files)+len(n.trees)+len(n.roots))
	return append(append(append(all, n.files...), n.trees...), n.roots...)
}

func references(r *repb.ActionResult, f cas.Function) (named, error) {
	var n named
	var first error
	add := func(to *[]cas.Digest, p *repb.Digest) {
		d, err := parse(p, f)
		if err != nil && first == nil {
			first = err
		}
		*to = append(*to, d)
	}
	for _, file := range r.GetOutputFiles() {
		add(&n.files, file.GetDigest())
	}
	for _, p := range []*repb.Digest{r.GetStdoutDigest(), r.GetStderrDigest()} {
		if p != nil {
			add(&n.files, p)
		}
	}
	for _, dir := range r.GetOutputDirectories() {
		tree, root := dir.GetTreeDigest(), dir.GetRootDirectoryDigest()
		if tree != nil || root == nil {
			add(&n.trees, tree)
		}
		if root != nil {
			add(&n.roots, root)
		}
	}
	return n, first
}

func parse(p *repb.Digest, f cas.Function) (cas.Digest, error) {
	d, err := cas.FromProto(f.Proto(), p)
	if err != nil {
		return cas.Digest{}, fmt.Errorf("%w: %w", errIncomplete, err)
	}
	return d, nil
}
