package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/hearth-build/hearth/cas/remote"
)

// identityFlags say who a client is, and which servers it believes.
type identityFlags struct {
	TokenFile string `help:"File with the token to show to the server." placeholder:"FILE"`
	trustFlags
}

// trustFlags say which servers are believed, and which certificate they are shown.
type trustFlags struct {
	TLSCA         string `help:"File with the certificates that sign the server's; default: those that this host trusts." name:"tls-ca" placeholder:"FILE"`
	TLSClientCert string `help:"File with the certificate to show to the server." name:"tls-client-cert" placeholder:"FILE"`
	TLSClientKey  string `help:"File with the key of that certificate." name:"tls-client-key" placeholder:"FILE"`
}

// token reads the file each time, since tokens are replaced while programs run.
func (c *identityFlags) token() (string, error) { return readSecret("--token-file", c.TokenFile) }

// readSecret reads the file that a flag names, if it does.
func readSecret(flag, file string) (string, error) {
	if file == "" {
		return "", nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("%s: %w", flag, err)
	}
	secret := strings.TrimSpace(string(text))
	if secret == "" {
		return "", fmt.Errorf("%s %s is empty", flag, file)
	}
	return secret, nil
}

// tls is how to speak TLS, where that is spoken.
func (c *trustFlags) tls() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.TLSCA != "" {
		text, err := os.ReadFile(c.TLSCA)
		if err != nil {
			return nil, fmt.Errorf("--tls-ca: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("--tls-ca %s has no certificate in it", c.TLSCA)
		}
	}
	if (c.TLSClientCert == "") != (c.TLSClientKey == "") {
		return nil, errors.New("--tls-client-cert and --tls-client-key go together")
	}
	if c.TLSClientCert != "" {
		pair, err := tls.LoadX509KeyPair(c.TLSClientCert, c.TLSClientKey)
		if err != nil {
			return nil, fmt.Errorf("--tls-client-cert %s, --tls-client-key %s: %w", c.TLSClientCert, c.TLSClientKey, err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

// dial makes a connection to a server of the Remote Execution API, or another that
// speaks gRPC.
func (c *identityFlags) dial(endpoint string, more ...grpc.DialOption) (*grpc.ClientConn, error) {
	if _, err := c.token(); err != nil {
		return nil, err
	}
	if c.TokenFile != "" {
		more = append(more, grpc.WithPerRPCCredentials(bearer{c}))
	}
	return c.trustFlags.dial(endpoint, more...)
}

// dial makes a connection on which nothing is shown but the certificate.
func (c *trustFlags) dial(endpoint string, more ...grpc.DialOption) (*grpc.ClientConn, error) {
	config, err := c.tls()
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(endpoint, "grpcs://") {
		more = append(more, grpc.WithTransportCredentials(credentials.NewTLS(config)))
	}
	return remote.Dial(endpoint, more...)
}

// bearer shows the token with each call.
type bearer struct{ who *identityFlags }

var _ credentials.PerRPCCredentials = bearer{}

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	token, err := b.who.token()
	return map[string]string{"authorization": "Bearer " + token}, err
}

// RequireTransportSecurity implements credentials.PerRPCCredentials. Whoever names
// a server by grpc:// wants to speak in the clear.
func (bearer) RequireTransportSecurity() bool { return false }

// errNotRemembered: the console answers, and knows no such thing.
var errNotRemembered = errors.New("the server does not remember it")

// getConsole reads JSON from a console.
func (c *identityFlags) getConsole(ctx context.Context, address string, into any) error {
	return c.callConsole(ctx, http.MethodGet, address, into)
}

// callConsole makes a request to a console, whose answer, if it has one, is JSON.
func (c *identityFlags) callConsole(ctx context.Context, method, address string, into any) error {
	config, err := c.tls()
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, address, http.NoBody)
	if err != nil {
		return err
	}
	token, err := c.token()
	if err != nil {
		return err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	transport := &http.Transport{TLSClientConfig: config, Proxy: http.ProxyFromEnvironment}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return fmt.Errorf("ask the console (is a hearth serving there? --console names another one): %w", err)
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
		return json.NewDecoder(resp.Body).Decode(into)
	case http.StatusNoContent:
		return nil
	case http.StatusNotFound:
		return errNotRemembered
	}
	const most = 4 << 10
	text, err := io.ReadAll(io.LimitReader(resp.Body, most))
	return errors.Join(fmt.Errorf("the console answers %s: %s", resp.Status, strings.TrimSpace(string(text))), err)
}
