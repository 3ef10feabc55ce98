package execserver

import (
	"context"
	"errors"
	"fmt"
	"io"
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
}

// Dial returns a client of the server whose socket is, or will be, at a path.
// It connects when it is first used.
func Dial(socketPath string) (*Client, error) {
	conn, err := grpc.NewClient("passthrough:///hearth-execserver",
		grpc.WithContextDialer(dialer{socket: socketPath}.dial),
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
	return &Client{socket: socketPath, conn: conn, rpc: execpb.NewExecServerClient(conn)}, nil
}

// Close ends all calls and the connection.
func (c *Client) Close() error { return c.conn.Close() }

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

// Run runs cmd, and returns when none of its processes is left. What it prints
// goes to stdout and stderr, from the calling goroutine; a writer that blocks
// makes the command wait. When ctx ends or a writer fails, the command is
// killed; Run then does not wait for its end. *StartError: nothing was run.
// After any other error the state of the container is in doubt.
func (c *Client) Run(ctx context.Context, cmd Command, stdout, stderr io.Writer) (Result, error) {
	req, err := cmd.request()
	if err != nil {
		return Result{}, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // kills the command, if it still runs
	stream, err := c.rpc.Run(ctx, req)
	if err != nil {
		return Result{}, c.failed(ctx, err)
	}
	for {
		event, err := stream.Recv()
		if err != nil {
			return Result{}, c.failed(ctx, err)
		}
		switch e := event.Event.(type) {
		case *execpb.RunEvent_Stdout:
			_, err = stdout.Write(e.Stdout)
		case *execpb.RunEvent_Stderr:
			_, err = stderr.Write(e.Stderr)
		case *execpb.RunEvent_NotStarted:
			return Result{}, c.finish(stream, &StartError{Reason: e.NotStarted.Reason, Message: e.NotStarted.Message})
		case *execpb.RunEvent_Exited:
			return resultOf(e.Exited), c.finish(stream, nil)
		}
		if err != nil {
			return Result{}, fmt.Errorf("pass on the output of %s: %w", cmd.Args[0], err)
		}
	}
}

// finish reads the regular end of a stream.
func (c *Client) finish(stream grpc.ServerStreamingClient[execpb.RunEvent], result error) error {
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		return c.failed(stream.Context(), err)
	}
	return result
}

func (c *Client) failed(ctx context.Context, err error) error {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF // no event said how the command ended
	}
	return fmt.Errorf("exec server at %s: %w", c.socket, cause(ctx, err))
}

// cause prefers the reason why a context ended to what gRPC makes of it. The
// server knows the deadline, too, and may notice it first.
func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%w (%w)", context.Cause(ctx), err)
	}
	if status.Code(err) == codes.DeadlineExceeded {
		return fmt.Errorf("%w (%w)", context.DeadlineExceeded, err)
	}
	return err
}
