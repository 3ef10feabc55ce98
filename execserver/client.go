package execserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/hearth-build/hearth/execserver/execpb"
)

const (
	// maxArguments bounds what the kernel takes as arguments and environment,
	// counted as it counts: with a NUL byte and a pointer for each string.
	maxArguments = 6 << 20
	// maxRequest is larger than any request within that bound.
	maxRequest = 8 << 20
	// window is how much output may be on its way to a client that does not
	// read it yet.
	window = 256 << 10
)

// Client talks to one exec server. Its methods may be called concurrently.
type Client struct {
	socket string
	conn   *grpc.ClientConn
	rpc    execpb.ExecServerClient
	// turn holds one token while no Run is under way.
	turn chan struct{}

	mu     sync.Mutex
	line   *line // of runs; nil until there is one
	closed bool
}

// Dial returns a client of the server whose socket is, or will be, at a path.
// It connects when it is first used.
func Dial(socketPath string) (*Client, error) {
	conn, err := grpc.NewClient("passthrough:///hearth-execserver",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return dialer{socket: socketPath}.dial(ctx)
		}),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithNoProxy(),
		grpc.WithIdleTimeout(0),
		grpc.WithDisableRetry(),
		grpc.WithDisableServiceConfig(),
		grpc.WithDisableHealthCheck(),
		grpc.WithStaticStreamWindowSize(window),
		grpc.WithStaticConnWindowSize(window),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: time.Millisecond, Multiplier: 1.6, MaxDelay: 50 * time.Millisecond},
			MinConnectTimeout: 5 * time.Second,
		}),
	)
	if err != nil {
		return nil, fmt.Errorf("exec server %s: %w", socketPath, err)
	}
	c := &Client{socket: socketPath, conn: conn, rpc: execpb.NewExecServerClient(conn), turn: make(chan struct{}, 1)}
	c.turn <- struct{}{}
	return c, nil
}

// Close ends all calls and the connections.
func (c *Client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	var err error
	if c.line != nil {
		err = ignoreClosed(c.line.conn.Close())
	}
	return errors.Join(err, c.conn.Close())
}

// Ready waits until the server answers, or ctx ends. The server may not have
// made its socket yet.
func (c *Client) Ready(ctx context.Context) error {
	if err := awaitFile(ctx, c.socket); err != nil {
		return fmt.Errorf("exec server has not made its socket %s: %w", c.socket, err)
	}
	resp, err := c.rpc.Ready(ctx, &execpb.ReadyRequest{}, grpc.WaitForReady(true))
	if err != nil {
		return fmt.Errorf("exec server at %s does not answer: %w", c.socket, cause(ctx, err))
	}
	return sameBuild(Version(), resp.Version)
}

// takeTurn waits until no command of this client runs.
func (c *Client) takeTurn(ctx context.Context) error {
	select {
	case <-c.turn:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the command before: %w", context.Cause(ctx))
	}
}

func (c *Client) endTurn() { c.turn <- struct{}{} }

// outlast returns when a call that was cancelled is over: the server hears of that
// before anything else.
func outlast(stream grpc.ServerStreamingClient[execpb.RunEvent]) {
	for {
		if _, err := stream.Recv(); err != nil {
			return
		}
	}
}

// settleTimeout is more than the server takes to find out that a process cannot
// be killed.
const settleTimeout = killPatience + 10*time.Second

// ErrUnsettled says that processes of a command may be left.
var ErrUnsettled = errors.New("it is not certain that its processes are gone")

// settle waits until nothing of a command is left whose call was broken off.
func (c *Client) settle(why error) error {
	ctx, cancel := context.WithTimeout(context.Background(), settleTimeout)
	defer cancel()
	if _, err := c.rpc.Settle(ctx, &execpb.SettleRequest{}); err != nil {
		return unsettled(why, plain(err))
	}
	return why
}

func unsettled(why, err error) error {
	return fmt.Errorf("%w (%w: %w)", why, ErrUnsettled, err)
}

func (c *Client) failed(ctx context.Context, err error) error {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF // no event said how the command ended
	}
	return fmt.Errorf("exec server at %s: %w", c.socket, cause(ctx, err))
}

// cause prefers the reason why a context ended to what gRPC makes of it. The
// server knows the deadline, too, and may notice it first: then the context is
// about to end.
func cause(ctx context.Context, err error) error {
	late := status.Code(err) == codes.DeadlineExceeded
	if _, limited := ctx.Deadline(); late && limited {
		<-ctx.Done()
	}
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%w (%w)", context.Cause(ctx), plain(err))
	case late:
		return fmt.Errorf("%w (%w)", context.DeadlineExceeded, plain(err))
	}
	return plain(err)
}

// plain takes the status off an error: it is of this call, and must not become
// that of the one on whose behalf the call was made.
func plain(err error) error {
	if s, ok := status.FromError(err); ok {
		return errors.New(s.Message())
	}
	return err
}
