package reapi

import (
	"context"
	"crypto/tls"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/hearth-build/hearth/reapi/access"
)

// WithTLS makes the server speak TLS.
func WithTLS(config *tls.Config) Option {
	return func(c *serverConfig) { c.grpc = append(c.grpc, grpc.Creds(credentials.NewTLS(config))) }
}

// WithAccess makes the server ask who calls, and let them do what they may. Each
// tenant has instances of its own, which open opens when they are first asked for;
// without this option everybody may do everything in the instances of NewServer.
func WithAccess(who access.Authenticator, open func(tenant string) (Instances, error)) Option {
	return func(c *serverConfig) { c.who, c.open = who, open }
}

// callers asks for the credentials of calls.
type callers struct{ who access.Authenticator }

// identify returns a context that says who calls.
func (c callers) identify(ctx context.Context, method string) (context.Context, error) {
	if method == grpc_health_v1.Health_Check_FullMethodName || method == grpc_health_v1.Health_Watch_FullMethodName {
		return ctx, nil // load balancers have no credentials
	}
	p, err := c.who.Authenticate(ctx, credentialsOf(ctx))
	if err != nil {
		return nil, rpcError(err)
	}
	return access.NewContext(ctx, p), nil
}

func (c callers) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	ctx, err := c.identify(ctx, info.FullMethod)
	if err != nil {
		return nil, err
	}
	return handle(ctx, req)
}

func (c callers) stream(server any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	ctx, err := c.identify(stream.Context(), info.FullMethod)
	if err != nil {
		return err
	}
	return handle(server, identified{stream, ctx})
}

// identified is a stream whose context says who calls.
type identified struct {
	grpc.ServerStream
	ctx context.Context
}

// Context implements grpc.ServerStream.
func (s identified) Context() context.Context { return s.ctx }

// Headers that tokens come in; the second is BuildBuddy's.
const (
	authorizationHeader = "authorization"
	apiKeyHeader        = "x-buildbuddy-api-key"
)

// credentialsOf finds what a call shows of who makes it.
func credentialsOf(ctx context.Context) access.Credentials {
	var c access.Credentials
	if keys := metadata.ValueFromIncomingContext(ctx, apiKeyHeader); len(keys) > 0 {
		c.Token = keys[0]
	}
	for _, header := range metadata.ValueFromIncomingContext(ctx, authorizationHeader) {
		if token, ok := access.BearerToken(header); ok {
			c.Token = token
			break
		}
	}
	if p, ok := peer.FromContext(ctx); ok {
		if info, ok := p.AuthInfo.(credentials.TLSInfo); ok && len(info.State.VerifiedChains) > 0 {
			c.Certificate = info.State.VerifiedChains[0][0]
		}
	}
	return c
}
