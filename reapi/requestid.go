package reapi

import (
	"context"
	"log/slog"

	"github.com/google/uuid"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// WithLogger makes the server write a line about each call that fails: a warning
// if the fault is here, else for debugging.
func WithLogger(logger *slog.Logger) Option {
	return func(c *serverConfig) { c.log = logger }
}

// failures give each error that a call ends with an ID, which the client gets as
// the error's RequestInfo, and which the line in the log has. Calls that succeed
// have none.
type failures struct{ log *slog.Logger }

func (f failures) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	resp, err := handle(ctx, req)
	return resp, f.identified(ctx, info.FullMethod, err)
}

func (f failures) stream(server any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	return f.identified(stream.Context(), info.FullMethod, handle(server, stream))
}

// identified is err with an ID.
func (f failures) identified(ctx context.Context, method string, err error) error {
	if err == nil {
		return nil
	}
	s, ok := status.FromError(err)
	if !ok {
		s = status.FromContextError(err)
	}
	id := uuid.NewString()
	if f.log.Enabled(ctx, failureLevel(s.Code())) {
		f.log.LogAttrs(ctx, failureLevel(s.Code()), "call failed", slog.String("request", id),
			slog.String("method", method), slog.String("code", s.Code().String()), slog.String("error", s.Message()), slog.String("peer", peerHost(ctx)))
	}
	return withRequestID(s, id).Err()
}

// failureLevel tells a fault of the server from what clients do all the time: ask
// for what is not there, or go away.
func failureLevel(code codes.Code) slog.Level {
	switch code {
	case codes.Unknown, codes.Internal, codes.DataLoss:
		return slog.LevelWarn
	}
	return slog.LevelDebug
}

// withRequestID adds an ID to a status. One that names missing blobs stays as it is,
// since there are clients that upload them only if it says nothing else (REAPI F61).
func withRequestID(s *status.Status, id string) *status.Status {
	for _, detail := range s.Details() {
		if _, ok := detail.(*errdetails.PreconditionFailure); ok {
			return s
		}
	}
	detailed, err := s.WithDetails(&errdetails.RequestInfo{RequestId: id})
	if err != nil {
		return s // the message still says it all
	}
	return detailed
}
