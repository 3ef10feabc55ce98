package actioncache

import (
	"context"
	"errors"
	"fmt"
	"testing"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"

	"github.com/hearth-build/hearth/cas"
)

// budget is what the caches under test hold.
const budget = 64 << 10

// testCache is what every Cache must do.
func testCache(t *testing.T, open func(t *testing.T) Cache) {
	for name, test := range map[string]func(t *testing.T, c Cache){
		"PutGet":     testPutGet,
		"Keys":       testKeys,
		"Empty":      testEmptyResult,
		"NoAliasing": testNoAliasing,
		"Cancelled":  testCancelled,
		"Eviction":   testEviction,
		"TooLarge":   testTooLarge,
		"Concurrent": testConcurrent,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

func actionKey(n int) cas.Digest { return cas.SHA256.Sum(fmt.Append(nil, "action ", n)) }

// result is one that the number can be read from.
func result(n int) *repb.ActionResult { return resultOf(cas.SHA256, n) }

func resultOf(f cas.Function, n int) *repb.ActionResult {
	return &repb.ActionResult{
		ExitCode:     int32(n),
		StdoutRaw:    fmt.Append(nil, "output of ", n),
		StdoutDigest: f.Sum(fmt.Append(nil, "output of ", n)).Proto(),
		OutputFiles:  []*repb.OutputFile{{Path: "a.out", Digest: f.Sum([]byte("a.out")).Proto(), IsExecutable: true}},
	}
}

func mustPut(t testing.TB, c Cache, key cas.Digest, r *repb.ActionResult) {
	t.Helper()
	if err := c.Put(t.Context(), key, r); err != nil {
		t.Fatal(err)
	}
}

func mustGet(t testing.TB, c Cache, key cas.Digest, want *repb.ActionResult) {
	t.Helper()
	if got, err := c.Get(t.Context(), key); err != nil || !proto.Equal(got, want) {
		t.Errorf("%v: got %v, %v, want %v", key, got, err, want)
	}
}

func mustMiss(t testing.TB, c Cache, key cas.Digest) {
	t.Helper()
	if got, err := c.Get(t.Context(), key); !errors.Is(err, cas.ErrNotFound) || got != nil {
		t.Errorf("%v: got %v, %v, want ErrNotFound", key, got, err)
	}
}

// REAPI E1, E12.
func testPutGet(t *testing.T, c Cache) {
	mustMiss(t, c, actionKey(1))
	mustPut(t, c, actionKey(1), result(1))
	mustGet(t, c, actionKey(1), result(1))
	mustMiss(t, c, actionKey(2))
	mustPut(t, c, actionKey(1), result(3)) // replaces
	mustGet(t, c, actionKey(1), result(3))
}

// REAPI B7, E1, E17: function and size belong to the key.
func testKeys(t *testing.T, c Cache) {
	for i, f := range cas.Functions() {
		mustPut(t, c, f.Sum([]byte("action")), resultOf(f, i))
	}
	for i, f := range cas.Functions() {
		mustGet(t, c, f.Sum([]byte("action")), resultOf(f, i))
	}
	k := cas.SHA256.Sum([]byte("action"))
	for _, f := range []cas.Function{cas.SHA256, cas.BLAKE3} {
		other, err := cas.ParseDigest(f, k.Hash(), k.Size()+1)
		if err != nil {
			t.Fatal(err)
		}
		mustMiss(t, c, other)
	}
}

// REAPI E14.
func testEmptyResult(t *testing.T, c Cache) {
	mustPut(t, c, actionKey(1), &repb.ActionResult{})
	mustGet(t, c, actionKey(1), &repb.ActionResult{})
	mustPut(t, c, cas.SHA256.Empty(), &repb.ActionResult{}) // an odd key is a key
	mustGet(t, c, cas.SHA256.Empty(), &repb.ActionResult{})
}

func testNoAliasing(t *testing.T, c Cache) {
	r := result(1)
	mustPut(t, c, actionKey(1), r)
	r.StdoutRaw[0] = 'X'
	r.OutputFiles[0].Path = "changed"
	mustGet(t, c, actionKey(1), result(1))
	got, err := c.Get(t.Context(), actionKey(1))
	if err != nil {
		t.Fatal(err)
	}
	got.StdoutRaw[0] = 'X'
	mustGet(t, c, actionKey(1), result(1))
}

func testCancelled(t *testing.T, c Cache) {
	why := errors.New("the client went away")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	if err := c.Put(ctx, actionKey(1), result(1)); !errors.Is(err, why) {
		t.Errorf("Put: %v", err)
	}
	mustMiss(t, c, actionKey(1))
	if _, err := c.Get(ctx, actionKey(1)); !errors.Is(err, why) {
		t.Errorf("Get: %v", err)
	}
}

func testEviction(t *testing.T, c Cache) {
	const n, leastEntry = 400, 200 // more than fit
	for i := range n {
		mustPut(t, c, actionKey(i), result(i))
		mustGet(t, c, actionKey(0), result(0)) // in use all along
	}
	mustGet(t, c, actionKey(n-1), result(n-1))
	kept := 0
	for i := range n {
		if _, err := c.Get(t.Context(), actionKey(i)); err == nil {
			kept++
		}
	}
	if kept < 8 || kept > budget/leastEntry {
		t.Errorf("%d results are left in %d bytes", kept, budget)
	}
	mustMiss(t, c, actionKey(1))
}

func testTooLarge(t *testing.T, c Cache) {
	mustPut(t, c, actionKey(1), result(1))
	large := &repb.ActionResult{StdoutRaw: make([]byte, budget+1)}
	if err := c.Put(t.Context(), actionKey(2), large); !errors.Is(err, cas.ErrTooLarge) {
		t.Errorf("got %v, want ErrTooLarge", err)
	}
	mustMiss(t, c, actionKey(2))
	mustGet(t, c, actionKey(1), result(1))
}

func testConcurrent(t *testing.T, c Cache) {
	var g errgroup.Group
	for i := range 16 {
		g.Go(func() error {
			for j := range 50 {
				key := actionKey(j % 10)
				if err := c.Put(t.Context(), key, result(i)); err != nil {
					return err
				}
				got, err := c.Get(t.Context(), key)
				if err != nil {
					return err
				}
				if !proto.Equal(got, result(int(got.GetExitCode()))) {
					return fmt.Errorf("a mixed result: %v", got)
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
}

func TestMemory(t *testing.T) {
	testCache(t, func(*testing.T) Cache { return NewMemory(budget) })
}

func TestDisk(t *testing.T) {
	testCache(t, func(t *testing.T) Cache { return NewDisk(openStore(t, t.TempDir()), "ac").Namespace("main") })
}

// A cache that passes on what is complete is a cache as well.
func TestComplete(t *testing.T) {
	testCache(t, func(*testing.T) Cache { return Complete(NewMemory(budget), everything{}) })
}
