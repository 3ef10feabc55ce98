package buildbuddy

import (
	"context"

	"google.golang.org/grpc/credentials"
)

// The headers in which the app is told who calls.
const (
	apiKeyHeader = "x-buildbuddy-api-key"
	jwtHeader    = "x-buildbuddy-jwt"
)

// ownerKey is where a context has the token of a task's owner.
type ownerKey struct{}

// withOwner makes calls in ctx calls of a task's owner. Without a token they are the
// machine's own.
func withOwner(ctx context.Context, token string) context.Context {
	if token == "" {
		return ctx
	}
	return context.WithValue(ctx, ownerKey{}, token)
}

// Credentials are what the app, and storage that belongs to it, is shown with each
// call: the token of the owner of the task that the call is for, or else the API key.
type Credentials struct {
	// APIKey may be another one each time, and "" for none.
	APIKey func() (string, error)
}

var _ credentials.PerRPCCredentials = Credentials{}

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (c Credentials) GetRequestMetadata(ctx context.Context, _ ...string) (map[string]string, error) {
	if token, ok := ctx.Value(ownerKey{}).(string); ok {
		return map[string]string{jwtHeader: token}, nil
	}
	key, err := c.APIKey()
	if err != nil || key == "" {
		return nil, err
	}
	return map[string]string{apiKeyHeader: key}, nil
}

// RequireTransportSecurity implements credentials.PerRPCCredentials. Whether an app is
// spoken to in the clear is for those to say who name it.
func (Credentials) RequireTransportSecurity() bool { return false }
