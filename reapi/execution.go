package reapi

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"slices"
	"strings"

	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/reapi/access"
	"github.com/hearth-build/hearth/reapi/execution"
	"github.com/hearth-build/hearth/runners"
)

type executionServer struct {
	repb.UnimplementedExecutionServer
	instances  *doors
	operations *operations
}

// operationStream is what Execute and WaitExecution answer on.
type operationStream interface {
	Send(*longrunningpb.Operation) error
	Context() context.Context
}

// Execute runs an action, or joins a run of it, and streams its progress.
func (s *executionServer) Execute(req *repb.ExecuteRequest, stream repb.Execution_ExecuteServer) error {
	instance, err := s.instances.find(stream.Context(), req.GetInstanceName(), access.Execute)
	if err != nil {
		return rpcError(err)
	}
	action, err := cas.FromProto(req.GetDigestFunction(), req.GetActionDigest())
	if err != nil {
		return rpcError(fmt.Errorf("action_digest: %w", err))
	}
	ctx := stream.Context()
	caller, err := access.FromContext(ctx)
	if err != nil {
		return rpcError(err)
	}
	client := requestMetadata(ctx)
	op, err := s.operations.scheduler.Submit(ctx, &execution.Request{
		Instance:        instance,
		Tenant:          caller.Tenant,
		Action:          action,
		SkipCacheLookup: req.GetSkipCacheLookup(),
		Priority:        clampPriority(req.GetExecutionPolicy().GetPriority()),
		Overrides:       overrides(ctx),
		Invocation:      cmp.Or(client.GetToolInvocationId(), client.GetCorrelatedInvocationsId()),
		Mnemonic:        client.GetActionMnemonic(),
		Target:          client.GetTargetId(),
		Peer:            peerHost(ctx),
		Span:            spanOf(ctx),
	})
	if err != nil {
		return executionStatus(err).Err()
	}
	return watch(op, stream, req)
}

// WaitExecution streams the progress of an operation that Execute started.
func (s *executionServer) WaitExecution(req *repb.WaitExecutionRequest, stream repb.Execution_WaitExecutionServer) error {
	op, err := s.operations.find(stream.Context(), req.GetName(), access.Read)
	if err != nil {
		return err
	}
	return watch(op, stream, &repb.ExecuteRequest{})
}

func clampPriority(p int32) int32 { return max(-priorityRange, min(priorityRange, p)) }

func watch(op *execution.Operation, stream operationStream, hints inlineHints) error {
	err := op.Watch(stream.Context(), func(state execution.State) error {
		message, err := operationMessage(stream.Context(), op.Name(), op, state, hints)
		if err != nil {
			return err
		}
		return stream.Send(message)
	})
	return rpcError(err)
}

// OperationMessage is what a client sees of an operation that it knows by the name,
// whose request had the hints what to inline.
func OperationMessage(ctx context.Context, name string, op *execution.Operation, state execution.State, hints *repb.ExecuteRequest) (*longrunningpb.Operation, error) {
	return operationMessage(ctx, name, op, state, hints)
}

// operationMessage makes the message. Operation.error is never set: what goes wrong
// with a run is told in the response (REAPI F3).
func operationMessage(ctx context.Context, name string, op *execution.Operation, state execution.State, hints inlineHints) (*longrunningpb.Operation, error) {
	told := &repb.ExecuteOperationMetadata{
		Stage:          state.Stage(),
		ActionDigest:   op.Action().Proto(),
		DigestFunction: op.Action().Function().Proto(),
	}
	if !state.Done() { // else the result has its own
		var err error
		if told.PartialExecutionMetadata, err = state.Metadata(); err != nil {
			return nil, err
		}
	}
	nameLogs(told, op)
	md, err := anypb.New(told)
	if err != nil {
		return nil, fmt.Errorf("encode operation metadata: %w", err)
	}
	message := &longrunningpb.Operation{Name: name, Metadata: md}
	if !state.Done() {
		return message, nil
	}
	resp, err := anypb.New(executeResponse(ctx, op, state.Outcome, hints))
	if err != nil {
		return nil, fmt.Errorf("encode the response: %w", err)
	}
	message.Done = true
	message.Result = &longrunningpb.Operation_Response{Response: resp}
	return message, nil
}

// FailedResponse is what a client hears of an action that did not even become an
// operation.
func FailedResponse(err error) *repb.ExecuteResponse {
	return &repb.ExecuteResponse{Status: executionStatus(err).Proto()}
}

// ExecuteResponse is what a client hears of an outcome of the operation.
func ExecuteResponse(ctx context.Context, op *execution.Operation, out *execution.Outcome) *repb.ExecuteResponse {
	return executeResponse(ctx, op, out, &repb.ExecuteRequest{})
}

func executeResponse(ctx context.Context, op *execution.Operation, out *execution.Outcome, hints inlineHints) *repb.ExecuteResponse {
	// Headers may have brought in what a message cannot carry.
	resp := &repb.ExecuteResponse{
		Result: out.Result, CachedResult: out.Cached, Message: strings.ToValidUTF8(out.Message, "?"), ServerLogs: out.ServerLogs,
	}
	if out.Result != nil {
		resp.Result = withInlined(ctx, op.Request().Instance.Store, op.Action().Function(), out.Result, hints)
	}
	if out.Err != nil {
		resp.Status = executionStatus(out.Err).Proto()
	}
	return resp
}

// overridePrefix marks request headers that override a platform property.
const overridePrefix = "x-buildbuddy-platform."

// overrides finds platform properties in the request's headers.
func overrides(ctx context.Context) []runners.Property {
	md, _ := metadata.FromIncomingContext(ctx)
	var props []runners.Property
	for key, values := range md {
		if name, ok := strings.CutPrefix(key, overridePrefix); ok && len(values) > 0 {
			props = append(props, runners.Property{Name: name, Value: values[len(values)-1]})
		}
	}
	slices.SortFunc(props, func(a, b runners.Property) int { return strings.Compare(a.Name, b.Name) })
	return props
}

// MetadataHeader carries a serialised RequestMetadata.
const MetadataHeader = "build.bazel.remote.execution.v2.requestmetadata-bin"

// requestMetadata is what the client says about itself; nothing it says is
// trusted, and nonsense is as good as silence (REAPI I1).
func requestMetadata(ctx context.Context) *repb.RequestMetadata {
	m := &repb.RequestMetadata{}
	values := metadata.ValueFromIncomingContext(ctx, MetadataHeader)
	if len(values) == 0 || proto.Unmarshal([]byte(values[0]), m) != nil {
		return &repb.RequestMetadata{}
	}
	return ClipMetadata(m)
}

// ClipMetadata cuts what a client says about itself to a bounded length.
func ClipMetadata(m *repb.RequestMetadata) *repb.RequestMetadata {
	m.ToolInvocationId = clip(m.GetToolInvocationId())
	m.ActionMnemonic = clip(m.GetActionMnemonic())
	m.TargetId = clip(m.GetTargetId())
	m.CorrelatedInvocationsId = clip(m.GetCorrelatedInvocationsId())
	return m
}

// peerHost is the address of the client's host, without the port, of which one
// client may have many.
func peerHost(ctx context.Context) string {
	p, ok := peer.FromContext(ctx)
	if !ok || p.Addr == nil {
		return ""
	}
	host, _, err := net.SplitHostPort(p.Addr.String())
	if err != nil {
		return p.Addr.String()
	}
	return host
}
