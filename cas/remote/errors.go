package remote

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/hearth-build/hearth/cas"
)

var (
	// errStalled ends an attempt whose stream brings nothing.
	errStalled = errors.New("the server sent and took nothing for too long")
	// errShort: a stream ended well, but before the blob did.
	errShort = errors.New("the server ended the stream before the end of the blob")
	// errRestart: an upload cannot go on where it was, and starts anew.
	errRestart = errors.New("the server does not go on with the upload where it said it would")
	// errGarbled: what came is no compressed stream.
	errGarbled = errors.New("the server sent damaged compressed data")
	// errSource marks what went wrong where a blob is read from, which no other
	// attempt would change, and whose status codes are not the server's.
	errSource = errors.New("read what is to be sent")
	// errClosed: the Store was closed.
	errClosed = errors.New("the remote store is closed")
)

// retryable tells whether the same call may succeed later (REAPI 0.5).
func retryable(err error) bool {
	if errors.Is(err, errSource) {
		return false
	}
	for _, own := range []error{errStalled, errShort, errRestart, errGarbled} {
		if errors.Is(err, own) {
			return true
		}
	}
	s, ok := status.FromError(err)
	if !ok {
		return false
	}
	switch s.Code() {
	case codes.Canceled, codes.Unknown, codes.DeadlineExceeded, codes.Aborted,
		codes.Internal, codes.Unavailable, codes.ResourceExhausted:
		return true
	default:
		return false
	}
}

// delayOf is how long the server asks to wait; 0 if it does not.
func delayOf(err error) time.Duration {
	s, _ := status.FromError(err)
	for _, detail := range s.Details() {
		if info, ok := detail.(*errdetails.RetryInfo); ok {
			return info.GetRetryDelay().AsDuration()
		}
	}
	return 0
}

// unsupported tells that the server lacks a method.
func unsupported(err error) bool { return status.Code(err) == codes.Unimplemented }

// unknownUpload tells that the server has nothing to go on with.
func unknownUpload(err error) bool { return unsupported(err) || status.Code(err) == codes.NotFound }

// offsetRefused tells that an upload cannot go on where it should.
func offsetRefused(err error) bool {
	code := status.Code(err)
	return code == codes.InvalidArgument || code == codes.OutOfRange
}

// statusError is the error of one blob in a batch.
func statusError(s *rpcstatus.Status) error { return status.ErrorProto(s) }

// unanswered is the error of a blob that the answer to a batch leaves out.
func unanswered(d cas.Digest) error {
	return status.Errorf(codes.Internal, "the answer to a batch says nothing of %v", d)
}

// explain makes an error of a call the one to return: the caller's own reason to
// stop, one of the kinds of package cas, or a plain error. It is never a gRPC
// status of the server. absent is what NOT_FOUND means, if that is no surprise.
func explain(ctx context.Context, what string, absent, err error) error {
	if err == nil {
		return nil
	}
	if cause := context.Cause(ctx); cause != nil {
		return fmt.Errorf("%s: %w", what, cause)
	}
	s, ok := status.FromError(err)
	if !ok || errors.Is(err, errSource) {
		if retryable(err) {
			err = fmt.Errorf("%w: %w", cas.ErrUnavailable, err)
		}
		return fmt.Errorf("%s: %w", what, err)
	}
	if s.Code() == codes.NotFound && absent != nil {
		return fmt.Errorf("%s: %w", what, absent)
	}
	hint, kind := kindOf(s.Code())
	if kind == nil {
		return fmt.Errorf("%s: the remote store says %v: %s%s", what, s.Code(), s.Message(), hint)
	}
	return fmt.Errorf("%s: %w: the remote store says %v: %s%s", what, kind, s.Code(), s.Message(), hint)
}

// kindOf is the one table from status codes to errors, with what to do about
// those that a person must look into.
func kindOf(code codes.Code) (hint string, kind error) {
	switch code {
	case codes.ResourceExhausted:
		return "", cas.ErrNoSpace
	case codes.OutOfRange:
		return "", cas.ErrOutOfRange
	case codes.Unavailable, codes.DeadlineExceeded, codes.Aborted, codes.Canceled:
		return "", cas.ErrUnavailable
	case codes.InvalidArgument, codes.NotFound:
		return " (is the instance name one that it serves?)", nil
	case codes.PermissionDenied, codes.Unauthenticated:
		return " (check the credentials for the remote store, and what they allow)", nil
	case codes.Unimplemented:
		return " (is this the address of a server of the Remote Execution API with a content-addressable storage?)", nil
	default:
		return "", nil
	}
}
