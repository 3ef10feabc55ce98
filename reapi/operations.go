package reapi

import (
	"context"
	"fmt"
	"strings"

	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/hearth-build/hearth/reapi/access"
	"github.com/hearth-build/hearth/reapi/execution"
)

// operations are the executions of a server, each of which is its tenant's alone.
type operations struct{ scheduler *execution.Scheduler }

// find returns an operation of that name for a caller who has one of the roles. To
// those who may not look at its instance it is as good as none, so that nobody
// learns that it is there (REAPI F12, I4).
func (o *operations) find(ctx context.Context, name string, roles access.Roles) (*execution.Operation, error) {
	caller, err := access.FromContext(ctx)
	if err != nil {
		return nil, rpcError(err)
	}
	op, ok := o.scheduler.Operation(caller.Tenant, name)
	if !ok || !visible(caller, op) {
		return nil, status.Errorf(codes.NotFound, "there is no operation %q here (any more); execute the action again", clip(name))
	}
	return op, rpcError(caller.Check(roles, op.Request().Instance.Name))
}

// visible reports whether a caller may look at an operation of its tenant.
func visible(caller *access.Principal, op *execution.Operation) bool {
	return caller.May(access.Read, op.Request().Instance.Name)
}

// operationsServer is google.longrunning.Operations for executions.
type operationsServer struct {
	longrunningpb.UnimplementedOperationsServer
	*operations
}

// GetOperation returns the present state.
func (s *operationsServer) GetOperation(ctx context.Context, req *longrunningpb.GetOperationRequest) (*longrunningpb.Operation, error) {
	op, err := s.find(ctx, req.GetName(), access.Read)
	if err != nil {
		return nil, err
	}
	return messageOf(ctx, op, op.Look())
}

// messageOf is what a client hears of an operation that it did not get from its
// own Execute: nothing is inlined.
func messageOf(ctx context.Context, op *execution.Operation, state execution.State) (*longrunningpb.Operation, error) {
	message, err := operationMessage(ctx, op.Name(), op, state, &repb.ExecuteRequest{})
	return message, rpcError(err)
}

// WaitOperation returns the state when the operation is done, or when the timeout
// is over. A timeout that is absent or 0 is that of the call.
func (s *operationsServer) WaitOperation(ctx context.Context, req *longrunningpb.WaitOperationRequest) (*longrunningpb.Operation, error) {
	timeout := req.GetTimeout().AsDuration()
	if t := req.GetTimeout(); t != nil && (t.CheckValid() != nil || timeout < 0) {
		return nil, rpcError(fmt.Errorf("%w: timeout %v is not a valid duration", errInvalid, t))
	}
	op, err := s.find(ctx, req.GetName(), access.Read)
	if err != nil {
		return nil, err
	}
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	if timeout > 0 {
		waiting, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	err = op.Watch(waiting, func(execution.State) error { return nil })
	if err != nil && ctx.Err() != nil {
		return nil, rpcError(err)
	}
	return messageOf(ctx, op, op.Look())
}

// CancelOperation ends an operation, and its run if nobody else waits for that.
func (s *operationsServer) CancelOperation(ctx context.Context, req *longrunningpb.CancelOperationRequest) (*emptypb.Empty, error) {
	op, err := s.find(ctx, req.GetName(), access.Execute)
	if err != nil {
		return nil, err
	}
	op.Cancel()
	return &emptypb.Empty{}, nil
}

// DeleteOperation forgets an operation; its run goes on.
func (s *operationsServer) DeleteOperation(ctx context.Context, req *longrunningpb.DeleteOperationRequest) (*emptypb.Empty, error) {
	op, err := s.find(ctx, req.GetName(), access.Execute)
	if err != nil {
		return nil, err
	}
	s.scheduler.Delete(op)
	return &emptypb.Empty{}, nil
}

// How many operations a page has: what a client gets that does not say, and at
// most, which keeps pages well below what clients are ready to receive.
const (
	defaultOperations = 100
	maxOperations     = 1000
	maxListBytes      = 3 << 20
)

// ListOperations lists the caller's operations, the oldest first, whose names
// begin with the name in the request.
func (s *operationsServer) ListOperations(ctx context.Context, req *longrunningpb.ListOperationsRequest) (*longrunningpb.ListOperationsResponse, error) {
	size := int(req.GetPageSize())
	switch {
	case size < 0:
		return nil, rpcError(fmt.Errorf("%w: page_size is %d: it cannot be negative", errInvalid, size))
	case req.GetFilter() != "":
		return nil, rpcError(fmt.Errorf("%w: filter is %q: there are no filters here, but name takes the beginning of names", errInvalid, clip(req.GetFilter())))
	case size == 0:
		size = defaultOperations
	}
	caller, err := access.FromContext(ctx)
	if err != nil {
		return nil, rpcError(err)
	}
	scope := listScope(caller.Tenant, req.GetName())
	after, err := scope.position(req.GetPageToken())
	if err != nil {
		return nil, rpcError(err)
	}
	size = min(size, maxOperations)
	found := s.scheduler.Operations(uint64(after), size+1, func(op *execution.Operation) bool {
		return op.Request().Tenant == caller.Tenant && strings.HasPrefix(op.Name(), req.GetName()) && visible(caller, op)
	})
	return page(ctx, scope, found, size)
}

// page puts as many operations into a response as fit, at least one.
func page(ctx context.Context, scope pageScope, found []*execution.Operation, size int) (*longrunningpb.ListOperationsResponse, error) {
	resp := &longrunningpb.ListOperationsResponse{}
	bytes := 0
	for i, op := range found {
		message, err := messageOf(ctx, op, op.State())
		if err != nil {
			return nil, err
		}
		bytes += proto.Size(message)
		if i == size || i > 0 && bytes > maxListBytes {
			resp.NextPageToken = scope.token(int(found[i-1].Number()))
			break
		}
		resp.Operations = append(resp.Operations, message)
	}
	return resp, nil
}
