package remote

import (
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// streamWindow and connWindow are how much a server may send ahead, of one call and of
// all. To let gRPC size them costs a ping for each message.
const (
	streamWindow = 4 << 20
	connWindow   = 16 << 20
)

// Dial makes a connection to an endpoint: grpc://host:port in the clear,
// grpcs://host:port by TLS, or unix:///path. The caller closes it. It connects
// when it is first used, and again whenever it broke. More options, such as other
// credentials, count more than those of the scheme.
func Dial(endpoint string, more ...grpc.DialOption) (*grpc.ClientConn, error) {
	scheme, address, found := strings.Cut(endpoint, "://")
	secure := credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS12})
	switch {
	case found && (scheme == "grpc" || scheme == "grpcs") && checkAddress(address) == nil:
		address = "dns:///" + address
	case found && scheme == "unix" && strings.HasPrefix(address, "/"):
		address = endpoint
	default:
		return nil, fmt.Errorf("endpoint %q: want grpc://HOST:PORT, grpcs://HOST:PORT or unix:///PATH", endpoint)
	}
	if scheme != "grpcs" {
		secure = insecure.NewCredentials()
	}
	options := append([]grpc.DialOption{
		grpc.WithTransportCredentials(secure),
		grpc.WithUserAgent("hearth"),
		grpc.WithStaticStreamWindowSize(streamWindow),
		grpc.WithStaticConnWindowSize(connWindow),
		// By default a server that was away for some minutes would be tried once
		// in two minutes, while calls fail that it would answer.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 3 * time.Second},
			MinConnectTimeout: 5 * time.Second,
		}),
	}, more...)
	conn, err := grpc.NewClient(address, options...)
	if err != nil {
		return nil, fmt.Errorf("endpoint %q: %w", endpoint, err)
	}
	return conn, nil
}

func checkAddress(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err == nil && (host == "" || port == "") {
		err = fmt.Errorf("host or port is missing in %q", address)
	}
	return err
}
