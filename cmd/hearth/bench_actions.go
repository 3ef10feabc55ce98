package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"
)

// nopActions are actions that are in the server's store, ready to be run.
type nopActions struct {
	client  *reapiClient
	digests []*repb.Digest
	next    atomic.Int64
}

// cacheableActions is how many different actions are made ready when each may
// be run only once; run starts over after them, skipping the cache.
const cacheableActions = 10_000

func (c *reapiClient) prepareNop(ctx context.Context, opts *benchNopCmd) (*nopActions, error) {
	platform := &repb.Platform{}
	for _, name := range slices.Sorted(maps.Keys(opts.Property)) {
		platform.Properties = append(platform.Properties, &repb.Platform_Property{Name: name, Value: opts.Property[name]})
	}
	digests, err := c.upload(ctx, &repb.Command{Arguments: opts.Command}, &repb.Directory{})
	if err != nil {
		return nil, err
	}
	n := 1
	if opts.Cacheable {
		n = cacheableActions
	}
	run := &nopActions{client: c}
	const perBatch = 1000
	salt := uuid.NewString()
	for made := 0; made < n; made += perBatch {
		var batch []proto.Message
		for i := made; i < min(n, made+perBatch); i++ {
			batch = append(batch, &repb.Action{
				CommandDigest: digests[0], InputRootDigest: digests[1], Platform: platform,
				DoNotCache: !opts.Cacheable, Salt: fmt.Appendf(nil, "%s %d", salt, i),
			})
		}
		actions, err := c.upload(ctx, batch...)
		if err != nil {
			return nil, err
		}
		run.digests = append(run.digests, actions...)
	}
	return run, nil
}

// run executes one action and checks how it ended.
func (a *nopActions) run(ctx context.Context) error {
	_, err := a.client.succeed(ctx, a.digests[(a.next.Add(1)-1)%int64(len(a.digests))])
	return err
}

// succeed executes an action, which must end well.
func (c *reapiClient) succeed(ctx context.Context, action *repb.Digest) (*repb.ActionResult, error) {
	resp, err := c.execute(ctx, &repb.ExecuteRequest{ActionDigest: action, SkipCacheLookup: true})
	if err != nil {
		return nil, err
	}
	if err := statusError(resp.GetStatus()); err != nil {
		return nil, err
	}
	if resp.GetResult().GetExitCode() != 0 {
		return nil, fmt.Errorf("the command exited with %d: %s", resp.GetResult().GetExitCode(), resp.GetMessage())
	}
	return resp.GetResult(), nil
}
