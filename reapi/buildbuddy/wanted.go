package buildbuddy

import (
	"context"
	"fmt"

	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/reapi"
	"github.com/hearth-build/hearth/reapi/buildbuddy/buildbuddypb"
	"github.com/hearth-build/hearth/reapi/cluster"
	"github.com/hearth-build/hearth/reapi/execution"
	"github.com/hearth-build/hearth/runners"
)

// wanted is what a task says.
type wanted struct {
	assigned cluster.Assigned
	// name is what the client knows the execution by.
	name    string
	jwt     string
	request *repb.ExecuteRequest
}

// parseTask reads a serialized ExecutionTask.
func parseTask(data []byte) (*wanted, error) {
	t := &buildbuddypb.ExecutionTask{}
	if err := proto.Unmarshal(data, t); err != nil {
		return nil, fmt.Errorf("%w: the task is not a valid ExecutionTask: %v", execution.ErrInvalid, err)
	}
	w := &wanted{name: t.GetExecutionId(), jwt: t.GetJwt(), request: &repb.ExecuteRequest{}}
	details := execution.Assignment{Action: &repb.Action{}, Command: &repb.Command{}, Queued: &timestamppb.Timestamp{}}
	client, overrides := &repb.RequestMetadata{}, &repb.Platform{}
	for _, field := range []struct {
		name string
		data []byte
		into proto.Message
	}{
		{"execute_request", t.GetExecuteRequest(), w.request},
		{"action", t.GetAction(), details.Action},
		{"command", t.GetCommand(), details.Command},
		{"queued_timestamp", t.GetQueuedTimestamp(), details.Queued},
		{"platform_overrides", t.GetPlatformOverrides(), overrides},
		{"request_metadata", t.GetRequestMetadata(), client},
	} {
		if err := proto.Unmarshal(field.data, field.into); err != nil {
			return nil, fmt.Errorf("%w: %s of the task: %v", execution.ErrInvalid, field.name, err)
		}
	}
	if t.Action == nil || t.Command == nil || w.name == "" {
		return nil, fmt.Errorf("%w: the task has no action, no command or no execution ID", execution.ErrInvalid)
	}
	if t.QueuedTimestamp == nil {
		details.Queued = nil
	}
	if client.GetToolInvocationId() == "" {
		client.ToolInvocationId = t.GetInvocationId()
	}
	digest, err := cas.FromProto(w.request.GetDigestFunction(), w.request.GetActionDigest())
	if err != nil {
		return nil, fmt.Errorf("action_digest of the task: %w", err)
	}
	w.assigned = cluster.Assigned{
		InstanceName: w.request.GetInstanceName(), Action: digest, SkipCacheLookup: w.request.GetSkipCacheLookup(),
		Client: client, Details: details,
	}
	for _, p := range overrides.GetProperties() {
		w.assigned.Overrides = append(w.assigned.Overrides, runners.Property{Name: p.GetName(), Value: p.GetValue()})
	}
	return w, nil
}

// message is what the client sees of a state of the execution.
func (w *wanted) message(ctx context.Context, op *execution.Operation, s execution.State) (*longrunningpb.Operation, error) {
	return reapi.OperationMessage(ctx, w.name, op, s, w.request)
}

// failed is the outcome of an action that did not even begin.
func (w *wanted) failed(why error) (*longrunningpb.Operation, error) {
	md, err := anypb.New(&repb.ExecuteOperationMetadata{
		Stage: repb.ExecutionStage_COMPLETED, ActionDigest: w.request.GetActionDigest(), DigestFunction: w.request.GetDigestFunction(),
	})
	if err != nil {
		return nil, err
	}
	body, err := anypb.New(reapi.FailedResponse(why))
	if err != nil {
		return nil, err
	}
	return &longrunningpb.Operation{Name: w.name, Metadata: md, Done: true, Result: &longrunningpb.Operation_Response{Response: body}}, nil
}

// describe adds to calls what the client said of itself.
func (w *wanted) describe(ctx context.Context) context.Context {
	data, err := proto.Marshal(w.assigned.Client)
	if err != nil {
		return ctx // it is for people alone
	}
	return metadata.AppendToOutgoingContext(ctx, reapi.MetadataHeader, string(data))
}

// statusOf is an error as the app passes it on: a google.rpc.Status.
func statusOf(err error) ([]byte, error) {
	return proto.Marshal(reapi.FailedResponse(err).GetStatus())
}
