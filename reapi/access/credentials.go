package access

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"strings"
)

// Credentials are what a call shows of who makes it.
type Credentials struct {
	// Token, if there is one.
	Token string
	// Certificate of the client, if it has one, which has been verified.
	Certificate *x509.Certificate
}

// Authenticator says whose credentials these are. Its errors are ErrUnknown. It is
// called from many goroutines.
type Authenticator interface {
	Authenticate(context.Context, Credentials) (*Principal, error)
}

// Open is for servers that ask for no credentials.
type Open struct{ everybody *Principal }

// NewOpen returns an Authenticator that lets everybody do everything.
func NewOpen() *Open { return &Open{Everybody()} }

// Authenticate implements Authenticator.
func (o *Open) Authenticate(context.Context, Credentials) (*Principal, error) {
	return o.everybody, nil
}

// AnyCertificate lets everybody do everything who has a certificate.
type AnyCertificate struct{}

// Authenticate implements Authenticator.
func (AnyCertificate) Authenticate(_ context.Context, c Credentials) (*Principal, error) {
	if c.Certificate == nil {
		return nil, fmt.Errorf("%w: this server wants a client's certificate (bazel --tls_client_certificate and --tls_client_key)", ErrUnknown)
	}
	return &Principal{Name: certificateNames(c.Certificate)[0], Grants: Everybody().Grants}, nil
}

// certificateNames are the names that a certificate is issued to, at least one.
func certificateNames(c *x509.Certificate) []string {
	names := append([]string{}, c.DNSNames...)
	for _, uri := range c.URIs {
		names = append(names, uri.String())
	}
	names = append(names, c.EmailAddresses...)
	if c.Subject.CommonName != "" || len(names) == 0 {
		names = append(names, c.Subject.CommonName)
	}
	return names
}

// BearerToken finds the token in an Authorization header, if that has one.
func BearerToken(header string) (token string, ok bool) {
	scheme, token, _ := strings.Cut(header, " ")
	return strings.TrimSpace(token), strings.EqualFold(scheme, "bearer")
}

// HashToken is how a token is written in a file.
func HashToken(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}
