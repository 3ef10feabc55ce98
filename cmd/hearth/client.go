package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/remote"
)

// localEndpoint is where `hearth serve` listens without flags.
const localEndpoint = "grpc://127.0.0.1:8980"

// reapiClient is a client of a Remote Execution server.
type reapiClient struct {
	*remote.Store // its storage
	conn          *grpc.ClientConn
	instance      string
}

// dialREAPI makes a client for an endpoint, as who it is. It connects when it is first used,
// and tries little: a person waits for the answer.
func dialREAPI(who *identityFlags, endpoint, instance string) (*reapiClient, error) {
	conn, err := who.dial(endpoint)
	if err != nil {
		return nil, fmt.Errorf("--endpoint: %w", err)
	}
	store, err := remote.New(conn, remote.Options{Instance: instance, Retries: 1})
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return &reapiClient{Store: store, conn: conn, instance: instance}, nil
}

func (c *reapiClient) close() { _ = errors.Join(c.Close(), c.conn.Close()) } // nothing is under way

// upload stores messages.
func (c *reapiClient) upload(ctx context.Context, messages ...proto.Message) ([]*repb.Digest, error) {
	digests := make([]*repb.Digest, 0, len(messages))
	contents := make([]*cas.Content, 0, len(messages))
	for _, m := range messages {
		data, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
		if err != nil {
			return nil, err
		}
		content := cas.SHA256.Content(data)
		digests, contents = append(digests, content.Digest().Proto()), append(contents, content)
	}
	if err := errors.Join(cas.PutAll(ctx, c, contents)...); err != nil {
		return nil, fmt.Errorf("upload the action: %w", err)
	}
	return digests, nil
}

// execute runs an action to its end. An action that could not be run, or not to
// its end, is no error, but the status of the response.
func (c *reapiClient) execute(ctx context.Context, req *repb.ExecuteRequest) (*repb.ExecuteResponse, error) {
	req.InstanceName = c.instance
	stream, err := repb.NewExecutionClient(c.conn).Execute(ctx, req)
	if err != nil {
		return nil, err
	}
	for {
		op, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil, errors.New("the stream ended before the action did")
		}
		if err != nil {
			return nil, err
		}
		if op.GetDone() {
			resp := &repb.ExecuteResponse{}
			return resp, op.GetResponse().UnmarshalTo(resp)
		}
	}
}

// statusError is nil for a status that is OK.
func statusError(s *rpcstatus.Status) error { return status.ErrorProto(s) }
