package main

import (
	"context"
	"errors"
	"fmt"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/hearth-build/hearth/cas"
)

// maxMessageBytes bounds what is read of an Action or a Command.
const maxMessageBytes = 64 << 20

// message reads a blob of the server and parses it.
func (f *found) message(ctx context.Context, what string, d cas.Digest, into proto.Message) error {
	data, err := cas.ReadAll(ctx, f.client, d, maxMessageBytes)
	if errors.Is(err, cas.ErrNotFound) {
		return fmt.Errorf("there is no %s %s on the server (instance name %q): it was never there, or has been evicted", what, d, f.client.instance)
	}
	if err != nil {
		return fmt.Errorf("read the %s: %w", what, err)
	}
	if err := proto.Unmarshal(data, into); err != nil {
		return fmt.Errorf("%s is not the %s message of an action: %w", d, what, err)
	}
	return nil
}

// messages reads the Action and its Command.
func (f *found) messages(ctx context.Context) (*repb.Action, *repb.Command, error) {
	action, command := &repb.Action{}, &repb.Command{}
	if err := f.message(ctx, "action", f.digest, action); err != nil {
		return nil, nil, err
	}
	d, err := f.child("command_digest", action.GetCommandDigest())
	if err != nil {
		return nil, nil, err
	}
	return action, command, f.message(ctx, "command", d, command)
}

// child is a digest that the action names.
func (f *found) child(field string, d *repb.Digest) (cas.Digest, error) {
	child, err := cas.FromProto(f.digest.Function().Proto(), d)
	if err != nil {
		return child, fmt.Errorf("%s is not the digest of an action: %s: %w", f.digest, field, err)
	}
	return child, nil
}

// outcome is how a run ended.
type outcome struct {
	// origin says where it is recorded.
	origin string
	// status is the name of the status code, failure what belongs to it if it is
	// not OK: the action could not be run, or not to its end.
	status, failure string
	message         string
	result          *repb.ActionResult // may be nil
}

// errNoResult: neither the action cache nor the history has a result.
var errNoResult = errors.New("no result of it is recorded: it is neither in the action cache nor remembered by the server")

// recorded returns how the action ended last, as far as it is known.
func (f *found) recorded(ctx context.Context) (*outcome, error) {
	if len(f.runs) > 0 && !f.runs[0].Cached {
		last := f.runs[0]
		out := &outcome{origin: "the server's memory", status: last.Status, failure: last.Error, message: last.Message}
		if last.Result != nil {
			out.result = &repb.ActionResult{}
			return out, protojson.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(last.Result, out.result)
		}
		if last.Error != "" {
			return out, nil
		}
	}
	result, err := f.client.Results().Get(ctx, f.digest)
	if errors.Is(err, cas.ErrNotFound) {
		return nil, errNoResult
	}
	if err != nil {
		return nil, err
	}
	return &outcome{origin: "the action cache", status: code.Code_OK.String(), result: result}, nil
}

// execute runs the action again.
func (f *found) execute(ctx context.Context) (*outcome, error) {
	resp, err := f.client.execute(ctx, &repb.ExecuteRequest{
		ActionDigest: f.digest.Proto(), DigestFunction: f.digest.Function().Proto(), SkipCacheLookup: true,
	})
	if err != nil {
		return nil, fmt.Errorf("run the action: %w", err)
	}
	return &outcome{
		origin: "this run",
		status: code.Code(resp.GetStatus().GetCode()).String(), failure: resp.GetStatus().GetMessage(),
		message: resp.GetMessage(), result: resp.GetResult(),
	}, nil
}
