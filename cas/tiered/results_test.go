package tiered_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/actioncache"
	"github.com/hearth-build/hearth/cas/tiered"
)

// farResults is a remote cache that takes a second to answer.
type farResults struct {
	actioncache.Cache
	gets atomic.Int64
	err  atomic.Pointer[error]
}

func newFarResults() *farResults { return &farResults{Cache: actioncache.NewMemory(1 << 20)} }

func (f *farResults) fail(err error) { f.err.Store(&err) }

func (f *farResults) Get(ctx context.Context, key cas.Digest) (*repb.ActionResult, error) {
	f.gets.Add(1)
	if err := f.err.Load(); err != nil && *err != nil {
		return nil, *err
	}
	result, err := f.Cache.Get(ctx, key)
	select {
	case <-time.After(time.Second):
		return result, err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (f *farResults) Put(ctx context.Context, key cas.Digest, r *repb.ActionResult) error {
	if err := f.err.Load(); err != nil && *err != nil {
		return *err
	}
	return f.Cache.Put(ctx, key, r)
}

// withResults runs a test in virtual time.
func withResults(t *testing.T, test func(t *testing.T, c *tiered.Results, local actioncache.Cache, remote *farResults)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		local, remote := actioncache.NewMemory(1<<20), newFarResults()
		c, err := tiered.NewResults(tiered.ResultsOptions{Local: local, Remote: remote, FreshFor: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		test(t, c, local, remote)
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
}

func result(n int) *repb.ActionResult {
	return &repb.ActionResult{ExitCode: int32(n), StdoutRaw: fmt.Append(nil, "output of ", n)}
}

func key(n int) cas.Digest { return cas.SHA256.Sum(fmt.Append(nil, "action ", n)) }

func mustGet(t *testing.T, c actioncache.Cache, k cas.Digest, want *repb.ActionResult) {
	t.Helper()
	if got, err := c.Get(t.Context(), k); err != nil || !proto.Equal(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
}

// REAPI E1, E12, E14.
func TestResults(t *testing.T) {
	withResults(t, func(t *testing.T, c *tiered.Results, local actioncache.Cache, remote *farResults) {
		if got, err := c.Get(t.Context(), key(1)); !errors.Is(err, cas.ErrNotFound) || got != nil {
			t.Errorf("got %v, %v", got, err)
		}
		for _, want := range []*repb.ActionResult{result(1), result(2), {}} {
			if err := c.Put(t.Context(), key(1), want); err != nil {
				t.Fatal(err)
			}
			for _, cache := range []actioncache.Cache{c, local, remote} {
				mustGet(t, cache, key(1), want)
			}
		}
		remote.gets.Store(0)
		mustGet(t, c, key(1), &repb.ActionResult{})
		if n := remote.gets.Load(); n != 0 {
			t.Errorf("a fresh copy was looked up %d times", n)
		}
		// What another machine stored shows when the copy is no longer fresh.
		if err := remote.Put(t.Context(), key(1), result(3)); err != nil {
			t.Fatal(err)
		}
		mustGet(t, c, key(1), &repb.ActionResult{})
		time.Sleep(time.Minute)
		mustGet(t, c, key(1), result(3))
	})
}

func TestResultsAreLookedUpOnce(t *testing.T) {
	withResults(t, func(t *testing.T, c *tiered.Results, _ actioncache.Cache, remote *farResults) {
		if err := remote.Put(t.Context(), key(1), result(1)); err != nil {
			t.Fatal(err)
		}
		var group errgroup.Group
		for i := range 32 {
			group.Go(func() error {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if i%2 == 0 { // some give up, the first of them as well
					time.AfterFunc(time.Millisecond, cancel)
				}
				got, err := c.Get(ctx, key(1))
				if i%2 == 0 && errors.Is(err, context.Canceled) {
					return nil
				}
				if err == nil {
					got.StdoutRaw[0] = byte(i) // each has its own
				}
				return err
			})
		}
		if err := group.Wait(); err != nil {
			t.Error(err)
		}
		if n := remote.gets.Load(); n != 1 {
			t.Errorf("%d look-ups", n)
		}
		mustGet(t, c, key(1), result(1))
	})
}

// A result that is stored while an older one is on its way stays.
func TestResultsPutDuringGet(t *testing.T) {
	withResults(t, func(t *testing.T, c *tiered.Results, _ actioncache.Cache, remote *farResults) {
		if err := remote.Put(t.Context(), key(1), result(1)); err != nil {
			t.Fatal(err)
		}
		var group errgroup.Group
		group.Go(func() error { _, err := c.Get(t.Context(), key(1)); return err })
		synctest.Wait() // the old one is on its way
		if err := c.Put(t.Context(), key(1), result(2)); err != nil {
			t.Fatal(err)
		}
		if err := group.Wait(); err != nil {
			t.Error(err)
		}
		mustGet(t, c, key(1), result(2))
	})
}

func TestResultsWhileTheRemoteIsAway(t *testing.T) {
	withResults(t, func(t *testing.T, c *tiered.Results, local actioncache.Cache, remote *farResults) {
		if err := c.Put(t.Context(), key(1), result(1)); err != nil {
			t.Fatal(err)
		}
		remote.fail(cas.ErrUnavailable)
		time.Sleep(time.Hour)
		mustGet(t, c, key(1), result(1))
		if _, err := c.Get(t.Context(), key(2)); !errors.Is(err, cas.ErrUnavailable) {
			t.Errorf("got %v, want ErrUnavailable", err)
		}
		if err := c.Put(t.Context(), key(2), result(2)); !errors.Is(err, cas.ErrUnavailable) {
			t.Errorf("Put: got %v, want ErrUnavailable", err)
		}
		if _, err := local.Get(t.Context(), key(2)); !errors.Is(err, cas.ErrNotFound) {
			t.Errorf("a result that was not stored remotely is kept: %v", err)
		}
		// Withdrawn is withdrawn.
		remote.fail(cas.ErrNotFound)
		if _, err := c.Get(t.Context(), key(1)); !errors.Is(err, cas.ErrNotFound) {
			t.Errorf("got %v, want ErrNotFound", err)
		}
	})
}

// REAPI A11: results that the remote cache does not take are kept here.
func TestResultsWithoutWriting(t *testing.T) {
	withResults(t, func(t *testing.T, c *tiered.Results, _ actioncache.Cache, remote *farResults) {
		if err := remote.Put(t.Context(), key(1), result(1)); err != nil {
			t.Fatal(err)
		}
		mustGet(t, c, key(1), result(1))
		remote.fail(fmt.Errorf("%w: %w", cas.ErrNotFound, actioncache.ErrReadOnly))
		if _, err := c.Get(t.Context(), key(2)); !errors.Is(err, cas.ErrNotFound) {
			t.Errorf("got %v, want ErrNotFound", err)
		}
		if err := c.Put(t.Context(), key(2), result(2)); err != nil {
			t.Fatal(err)
		}
		mustGet(t, c, key(2), result(2))
		if _, err := remote.Cache.Get(t.Context(), key(2)); !errors.Is(err, cas.ErrNotFound) {
			t.Errorf("the remote cache has it: %v", err)
		}
	})
}
