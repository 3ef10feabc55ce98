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
	// turn holds one token while no Run is under way.
	turn chan struct{}
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
	c := &Client{socket: socketPath, conn: conn, rpc: execpb.NewExecServerClient(conn), turn: make(chan struct{}, 1)}
	c.turn <- struct{}{}
	return c, nil
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

// Run runs cmd, after the one before, and returns when none of its processes is
// left. What it prints goes to stdout and stderr, from the calling goroutine; a
// writer that blocks makes the command wait. When ctx ends or a writer fails,
// the command is killed. *StartError: nothing was run. After any other error
// the state of the container is in doubt; if it is ErrUnsettled as well,
// processes may be left.
func (c *Client) Run(ctx context.Context, cmd Command, stdout, stderr io.Writer) (Result, error) {
	req, err := cmd.request()
	if err != nil {
		return Result{}, err
	}
	if err := c.takeTurn(ctx); err != nil {
		return Result{}, err
	}
	defer c.endTurn()
	calling, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.rpc.Run(calling, req)
	if err != nil {
		return Result{}, c.settle(c.failed(ctx, err))
	}
	result, err := c.receive(ctx, stream, stdout, stderr)
	var notStarted *StartError
	if err == nil || errors.As(err, &notStarted) {
		return result, err
	}
	cancel() // kills the command, if it still runs
	outlast(stream)
	return Result{}, c.settle(err)
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

// receive takes the events of a run.
func (c *Client) receive(ctx context.Context, stream grpc.ServerStreamingClient[execpb.RunEvent], stdout, stderr io.Writer) (Result, error) {
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
			return Result{}, fmt.Errorf("pass on the command's output: %w", err)
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
		return fmt.Errorf("%w (%w: %w)", why, ErrUnsettled, plain(err))
	}
	return why
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
