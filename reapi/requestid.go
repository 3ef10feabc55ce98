package reapi

import (
	"context"
	"log/slog"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// WithLogger makes the server write a line about each call that fails: a warning
// if the fault is here, else for debugging.
func WithLogger(logger *slog.Logger) Option {
	return func(c *serverConfig) { c.log = logger }
}

// RequestIDKey is the name of the ID in the trailing metadata of a call that fails.
const RequestIDKey = "x-request-id"

// failures give each error that a call ends with an ID, which the client gets with
// the trailing metadata, and which the line in the log has. Calls that succeed have
// none. It is no detail of the status: Bazel 4.2 takes any detail for a reason to try
// again (REAPI F61).
type failures struct{ log *slog.Logger }

func (f failures) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	resp, err := handle(ctx, req)
	if err != nil {
		// What fails is a connection that is gone, and the error with it.
		_ = grpc.SetTrailer(ctx, f.identify(ctx, info.FullMethod, err))
	}
	return resp, err
}

func (f failures) stream(server any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	err := handle(server, stream)
	if err != nil {
		stream.SetTrailer(f.identify(stream.Context(), info.FullMethod, err))
	}
	return err
}

// identify logs an error with a new ID, and returns the metadata that say it.
func (f failures) identify(ctx context.Context, method string, err error) metadata.MD {
	s, ok := status.FromError(err)
	if !ok {
		s = status.FromContextError(err)
	}
	id := uuid.NewString()
	if f.log.Enabled(ctx, failureLevel(s.Code())) {
		f.log.LogAttrs(ctx, failureLevel(s.Code()), "call failed", slog.String("request", id),
			slog.String("method", method), slog.String("code", s.Code().String()), slog.String("error", s.Message()), slog.String("peer", peerHost(ctx)))
	}
	return metadata.Pairs(RequestIDKey, id)
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
