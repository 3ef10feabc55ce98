package tiered

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/protobuf/proto"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/actioncache"
)

// ResultsOptions says what Results are made of.
type ResultsOptions struct {
	Local  actioncache.Cache // keeps copies
	Remote actioncache.Cache // what counts
	// FreshFor is how long a copy is taken without a look at the remote cache,
	// where somebody may have replaced or withdrawn the result. 0: 30 s; negative:
	// it is asked each time.
	FreshFor time.Duration
	// FreshMost is how many copies are known to be fresh. 0: 100,000.
	FreshMost int
	// Logger hears of a local cache that fails. nil: nobody does.
	Logger *slog.Logger
}

// Results is an action cache whose results live in a remote one and are kept in a
// local one as well. While the remote one is unavailable, copies are taken
// whatever their age. Where the remote one takes no results (ErrReadOnly), those
// that are made here are kept here alone. Wrap it in actioncache.Complete: a copy
// may outlive its blobs.
type Results struct {
	local, remote actioncache.Cache
	fresh         *known
	lookups       *flights[cas.Digest, *lookup]
	logger        *slog.Logger
}

var _ actioncache.Cache = (*Results)(nil)

// NewResults returns the cache that the two make up. Close it before them.
func NewResults(o ResultsOptions) (*Results, error) {
	if o.Local == nil || o.Remote == nil {
		return nil, errors.New("options of the tiered action cache: a tier is missing")
	}
	if o.FreshMost < 0 {
		return nil, fmt.Errorf("options of the tiered action cache: the number of fresh copies, %d, is negative", o.FreshMost)
	}
	if o.FreshFor == 0 {
		o.FreshFor = 30 * time.Second
	}
	if o.FreshMost == 0 {
		o.FreshMost = 100_000
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Results{
		local: o.Local, remote: o.Remote, fresh: newKnown(o.FreshFor, o.FreshMost),
		lookups: newFlights[cas.Digest, *lookup](), logger: o.Logger,
	}, nil
}

// Close ends the look-ups that are under way.
func (r *Results) Close() error {
	r.lookups.close()
	return nil
}

// lookup is a look at the remote cache.
type lookup struct {
	result *repb.ActionResult // once it is done; nobody changes it

	mu       sync.Mutex // guards outdated, and is held while a copy is stored
	outdated bool       // a Put has come since
}

// Get implements actioncache.Cache.
func (r *Results) Get(ctx context.Context, key cas.Digest) (*repb.ActionResult, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	if r.fresh.has(key) {
		result, err := r.local.Get(ctx, key)
		if err == nil || ctx.Err() != nil {
			return result, err
		}
		r.unlessAbsent(ctx, key, err)
	}
	l, err := r.lookups.do(ctx, key, func() *lookup { return &lookup{} }, func(ctx context.Context, l *lookup) error {
		return r.look(ctx, key, l)
	})
	switch {
	case err == nil:
		return proto.CloneOf(l.result), nil
	case !errors.Is(err, cas.ErrUnavailable) && !errors.Is(err, actioncache.ErrReadOnly):
		return nil, err
	}
	if result, localErr := r.local.Get(ctx, key); localErr == nil {
		return result, nil
	}
	return nil, err
}

// look asks the remote cache and keeps a copy of what it has.
func (r *Results) look(ctx context.Context, key cas.Digest, l *lookup) error {
	result, err := r.remote.Get(ctx, key)
	if err != nil {
		return err
	}
	l.result = result
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.outdated {
		r.keep(ctx, key, result)
	}
	return nil
}

// Put implements actioncache.Cache. It is done when the remote cache has the
// result, or the local one if the remote one takes none.
func (r *Results) Put(ctx context.Context, key cas.Digest, result *repb.ActionResult) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	r.outdate(key) // what is under way must not come back later
	err := r.remote.Put(ctx, key, result)
	r.outdate(key)
	if errors.Is(err, actioncache.ErrReadOnly) {
		return r.local.Put(ctx, key, result)
	}
	if err != nil {
		return err
	}
	r.keep(ctx, key, result)
	return nil
}

// outdate makes sure that a copy is looked at again, and that no look-up stores
// another one any more.
func (r *Results) outdate(key cas.Digest) {
	r.fresh.remove(key)
	if f := r.lookups.forget(key); f != nil {
		f.value.mu.Lock()
		f.value.outdated = true
		f.value.mu.Unlock()
		r.fresh.remove(key)
	}
}

// keep stores a copy. Without one, the next look costs a call.
func (r *Results) keep(ctx context.Context, key cas.Digest, result *repb.ActionResult) {
	if err := r.local.Put(ctx, key, result); err != nil {
		r.logger.WarnContext(ctx, "no copy of an action result can be kept", "action", key.String(), "error", err)
		return
	}
	r.fresh.add(key)
}

func (r *Results) unlessAbsent(ctx context.Context, key cas.Digest, err error) {
	if !errors.Is(err, cas.ErrNotFound) {
		r.logger.WarnContext(ctx, "the copy of an action result cannot be read", "action", key.String(), "error", err)
	}
}
