package execserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/hearth-build/hearth/execserver/execpb"
)

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
	l, err := c.pickUp(ctx)
	if err != nil {
		return Result{}, c.settle(c.failed(ctx, err))
	}
	unwatch := context.AfterFunc(ctx, l.breakOff)
	last, err := l.run(req, stdout, stderr)
	var outputErr *outputError
	if err != nil && !errors.As(err, &outputErr) {
		err = c.failed(ctx, err)
	}
	if inTime := unwatch(); !inTime || err != nil {
		// With a last event it is known what came of the run, however the line ends.
		if hangErr := c.hangUp(l); hangErr != nil && err != nil {
			return Result{}, unsettled(err, hangErr)
		}
	}
	switch e := last.GetEvent().(type) {
	case *execpb.RunEvent_Exited:
		return resultOf(e.Exited), nil
	case *execpb.RunEvent_NotStarted:
		return Result{}, &StartError{Reason: e.NotStarted.Reason, Message: e.NotStarted.Message}
	case *execpb.RunEvent_Failed:
		err = c.failed(ctx, errors.New(e.Failed))
	}
	return Result{}, c.settle(err)
}

// outputError says that a writer did not take what a command printed.
type outputError struct{ err error }

// Error implements error.
func (e *outputError) Error() string { return "pass on the command's output: " + e.err.Error() }

// Unwrap returns the writer's error.
func (e *outputError) Unwrap() error { return e.err }

// line is a client's connection for runs.
type line struct {
	frames
	*frameReader
	conn *net.UnixConn
}

// pickUp returns the line, and makes it if there is none.
func (c *Client) pickUp(ctx context.Context) (*line, error) {
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return nil, net.ErrClosed
	case c.line != nil:
		return c.line, nil
	}
	conn, err := dialer{socket: c.socket}.dial(ctx)
	if err != nil {
		return nil, err
	}
	c.line = &line{frames: frames{conn: conn}, frameReader: newFrameReader(conn, maxEvent), conn: conn}
	return c.line, nil
}

// hangUp breaks a run off, and returns when the server has done so, too: before
// that, it might not even have begun.
func (c *Client) hangUp(l *line) error {
	l.breakOff()
	_, err := io.Copy(io.Discard, l.r)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.line = nil
	return errors.Join(err, l.conn.Close())
}

// breakOff has the server kill the command and close the connection. A server that
// does not is not waited for without end.
func (l *line) breakOff() {
	// If either fails, so does the read that follows.
	_ = l.conn.CloseWrite()
	_ = l.conn.SetReadDeadline(time.Now().Add(settleTimeout))
}

// run returns the last event.
func (l *line) run(req *execpb.RunRequest, stdout, stderr io.Writer) (*execpb.RunEvent, error) {
	if err := l.write(req); err != nil {
		return nil, err
	}
	for {
		event := &execpb.RunEvent{}
		err := l.read(event)
		if err != nil {
			return nil, err
		}
		switch e := event.Event.(type) {
		case *execpb.RunEvent_Stdout:
			_, err = stdout.Write(e.Stdout)
		case *execpb.RunEvent_Stderr:
			_, err = stderr.Write(e.Stderr)
		case nil:
			return nil, fmt.Errorf("an event of no kind that is known: %v", event)
		default:
			return event, nil
		}
		if err != nil {
			return nil, &outputError{err}
		}
	}
}
