package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync/atomic"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/hearth-build/hearth/cas"
)

// localEndpoint is where `hearth serve` listens without flags.
const localEndpoint = "grpc://127.0.0.1:8980"

// reapiClient is the part of a Remote Execution client that benches need.
type reapiClient struct {
	conn     *grpc.ClientConn
	instance string
}

func dialREAPI(endpoint, instance string) (*reapiClient, error) {
	address, ok := strings.CutPrefix(endpoint, "grpc://")
	if !ok {
		return nil, fmt.Errorf("--endpoint %q does not begin with grpc://", endpoint)
	}
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, fmt.Errorf("--endpoint %s: %w", endpoint, err)
	}
	return &reapiClient{conn: conn, instance: instance}, nil
}

func (c *reapiClient) close() { _ = c.conn.Close() } // nothing is under way

// upload stores messages, all of which fit into one batch.
func (c *reapiClient) upload(ctx context.Context, messages ...proto.Message) ([]*repb.Digest, error) {
	req := &repb.BatchUpdateBlobsRequest{InstanceName: c.instance}
	var digests []*repb.Digest
	for _, m := range messages {
		data, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
		if err != nil {
			return nil, err
		}
		d := cas.SHA256.Sum(data).Proto()
		digests = append(digests, d)
		req.Requests = append(req.Requests, &repb.BatchUpdateBlobsRequest_Request{Digest: d, Data: data})
	}
	resp, err := repb.NewContentAddressableStorageClient(c.conn).BatchUpdateBlobs(ctx, req)
	if err != nil {
		return nil, fmt.Errorf("upload the action: %w", err)
	}
	for _, r := range resp.GetResponses() {
		if r.GetStatus().GetCode() != int32(codes.OK) {
			return nil, fmt.Errorf("upload the action: %w", status.ErrorProto(r.GetStatus()))
		}
	}
	return digests, nil
}

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
	stream, err := repb.NewExecutionClient(a.client.conn).Execute(ctx, &repb.ExecuteRequest{
		InstanceName:    a.client.instance,
		ActionDigest:    a.digests[(a.next.Add(1)-1)%int64(len(a.digests))],
		SkipCacheLookup: true,
	})
	if err != nil {
		return err
	}
	for {
		op, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return errors.New("the stream ended before the action did")
		}
		if err != nil {
			return err
		}
		if !op.GetDone() {
			continue
		}
		resp := &repb.ExecuteResponse{}
		if err := op.GetResponse().UnmarshalTo(resp); err != nil {
			return err
		}
		if err := status.ErrorProto(resp.GetStatus()); err != nil {
			return err
		}
		if resp.GetResult().GetExitCode() != 0 {
			return fmt.Errorf("the command exited with %d: %s", resp.GetResult().GetExitCode(), resp.GetMessage())
		}
		return nil
	}
}
