package reapi

import (
	"context"
	"errors"
	"strings"
	"syscall"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/actioncache"
	"github.com/hearth-build/hearth/cas/asset"
	"github.com/hearth-build/hearth/cas/tree"
	"github.com/hearth-build/hearth/reapi/access"
	"github.com/hearth-build/hearth/reapi/execution"
	"github.com/hearth-build/hearth/runners"
)

// errInvalid is a mistake in a request that no other package has a name for.
var errInvalid = errors.New("invalid request")

// codeOf is the one table from errors to status codes. The first row that
// matches counts. Clients retry some codes and not others, so the choice
// decides what a client does next (REAPI 0.5, F43-F59).
func codeOf(err error) codes.Code {
	for _, row := range codeTable() {
		if errors.Is(err, row.kind) {
			return row.code
		}
	}
	return codes.Internal
}

type codeRow struct {
	kind error
	code codes.Code
}

func codeTable() []codeRow {
	return []codeRow{
		{context.Canceled, codes.Canceled},
		{context.DeadlineExceeded, codes.DeadlineExceeded},
		{access.ErrUnknown, codes.Unauthenticated},
		{access.ErrForbidden, codes.PermissionDenied},
		{access.ErrKeys, codes.Unavailable},
		{errInvalid, codes.InvalidArgument},
		{cas.ErrInvalidDigest, codes.InvalidArgument},
		{cas.ErrMismatch, codes.InvalidArgument},
		{cas.ErrTooLarge, codes.InvalidArgument},
		{cas.ErrOutOfRange, codes.OutOfRange},
		{tree.ErrInvalid, codes.InvalidArgument},
		{execution.ErrInvalid, codes.InvalidArgument},
		{asset.ErrInvalid, codes.InvalidArgument},
		{asset.ErrUnimplemented, codes.Unimplemented},
		{asset.ErrForbidden, codes.PermissionDenied},
		{asset.ErrClosed, codes.Unavailable},
		{asset.ErrAbsent, codes.NotFound},
		{asset.ErrDenied, codes.PermissionDenied},
		{asset.ErrBroken, codes.Aborted},
		{asset.ErrTooLarge, codes.ResourceExhausted},
		{asset.ErrTimeout, codes.DeadlineExceeded},
		{tree.ErrOutput, codes.FailedPrecondition},
		{errReplaced, codes.Aborted},
		{execution.ErrLogLost, codes.Aborted},
		{execution.ErrTimeout, codes.DeadlineExceeded},
		{execution.ErrDraining, codes.Unavailable},
		{execution.ErrCancelled, codes.Canceled},
		{execution.ErrQueueFull, codes.ResourceExhausted},
		{execution.ErrOutputLimit, codes.ResourceExhausted},
		{cas.ErrNoSpace, codes.ResourceExhausted},
		{cas.ErrUnavailable, codes.Unavailable},
		{actioncache.ErrReadOnly, codes.PermissionDenied},
		{syscall.ENOSPC, codes.ResourceExhausted}, // of the work or spool directories
		{syscall.EDQUOT, codes.ResourceExhausted},
		{runners.ErrPlatform, codes.FailedPrecondition},
		{runners.ErrBackend, codes.FailedPrecondition},
		{runners.ErrImage, codes.FailedPrecondition},
		{execution.ErrTransient, codes.Unavailable},
		{runners.ErrLost, codes.Unavailable},
		{runners.ErrClosed, codes.Unavailable},
		{cas.ErrNotFound, codes.NotFound},
	}
}

// RPCError is what an RPC of another service returns for err, by the same table.
func RPCError(err error) error { return rpcError(err) }

// rpcError is what an RPC other than Execute returns for err.
func rpcError(err error) error {
	if err == nil {
		return nil
	}
	if s, ok := status.FromError(err); ok {
		return s.Err()
	}
	return newStatus(codeOf(err), err).Err()
}

// executionStatus is what the client of an execution hears about err, before
// or after there is an operation. A missing blob is a failed precondition that
// names the blob, which makes the client upload it and ask again; NOT_FOUND
// would mean that the operation is lost (REAPI F15, F44, F60).
func executionStatus(err error) *status.Status {
	if s, ok := status.FromError(err); ok {
		return s
	}
	var missing *cas.MissingError
	if errors.As(err, &missing) {
		return newStatus(codes.FailedPrecondition, err, violations(missing))
	}
	code := codeOf(err)
	if code == codes.NotFound {
		code = codes.Internal
	}
	return newStatus(code, err)
}

// StatusName is the name of the status code that the client of an execution gets
// for err, as the API spells it.
func StatusName(err error) string {
	if err == nil {
		return code.Code_OK.String()
	}
	return code.Code(executionStatus(err).Code()).String()
}

// retryAfter is when a client that found no room should ask again.
const retryAfter = 5 * time.Second

func newStatus(code codes.Code, err error, details ...protoadapt.MessageV1) *status.Status {
	s := status.New(code, strings.ToValidUTF8(err.Error(), "?"))
	if code == codes.ResourceExhausted || code == codes.Unavailable {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(retryAfter)})
	}
	if len(details) == 0 {
		return s
	}
	detailed, detailErr := s.WithDetails(details...)
	if detailErr != nil {
		return s // the message still says it all
	}
	return detailed
}

// maxViolations bounds the blobs that one answer names; clients look for all
// missing blobs anyway before they upload.
const maxViolations = 2000

func violations(missing *cas.MissingError) *errdetails.PreconditionFailure {
	failure := &errdetails.PreconditionFailure{}
	seen := map[cas.Digest]bool{}
	for _, d := range missing.Digests {
		if seen[d] || len(seen) == maxViolations {
			continue
		}
		seen[d] = true
		failure.Violations = append(failure.Violations, &errdetails.PreconditionFailure_Violation{
			Type:    "MISSING",
			Subject: "blobs/" + d.Name(),
		})
	}
	return failure
}
