package podman

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/containers/podman/v5/pkg/bindings"
	"github.com/containers/podman/v5/pkg/bindings/containers"

	"github.com/hearth-build/hearth/execserver/execpb"
	"github.com/hearth-build/hearth/runners"
)

// attach starts an exec session and copies its output until it ends. The
// bindings have the same, but swap the transport of the connection for it, under
// all other calls.
func (c *connection) attach(ctx context.Context, session string, stdout, stderr io.Writer) (err error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", c.socket)
	if err != nil {
		return c.explain(ctx, "podman exec", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() }) // ends what reads below
	defer func() {
		if stop() {
			err = errors.Join(err, conn.Close())
		}
	}()
	from, err := upgrade(conn, session)
	if answered(err) {
		return notStarted([]byte(err.Error()))
	}
	if err != nil {
		return c.explain(ctx, "podman exec", err)
	}
	err = demultiplex(from, stdout, stderr)
	var broken brokenStream
	if errors.As(err, &broken) {
		return c.explain(ctx, "podman exec", err)
	}
	return err
}

// brokenStream is an error of the connection, not of what came over it.
type brokenStream struct{ error }

// upgrade makes a connection the stream of a session's output.
func upgrade(conn net.Conn, session string) (io.Reader, error) {
	req, err := http.NewRequest(http.MethodPost, "http://d/v4.0.0/libpod/exec/"+session+"/start",
		strings.NewReader(`{"Detach":false,"Tty":false}`))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "tcp")
	if err := req.Write(conn); err != nil {
		return nil, err
	}
	from := bufio.NewReaderSize(conn, 64<<10)
	resp, err := http.ReadResponse(from, req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return from, nil
	}
	answer := &bindings.APIResponse{Response: resp}
	err = answer.Process(nil)
	if err == nil {
		err = fmt.Errorf("podman answers %s to a request for a stream", resp.Status)
	}
	return nil, errors.Join(err, resp.Body.Close())
}

// demultiplex copies frames to where they belong.
func demultiplex(from io.Reader, stdout, stderr io.Writer) error {
	buffer := make([]byte, 64<<10)
	for {
		stream, length, err := containers.DemuxHeader(from, buffer)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return brokenStream{err}
		}
		frame, err := containers.DemuxFrame(from, buffer, length)
		if err != nil {
			return brokenStream{err}
		}
		switch stream {
		case 1:
			_, err = stdout.Write(frame)
		case 2:
			_, err = stderr.Write(frame)
		default:
			err = notStarted(frame)
		}
		if err != nil {
			return err
		}
	}
}

// notStarted reads what podman says when a command did not start.
func notStarted(message []byte) error {
	text := strings.TrimSpace(string(bytes.TrimPrefix(message, []byte("Error: "))))
	return &runners.StartError{Reason: reasonOf(text), Message: text}
}

// reasonOf makes the best of the runtime's words.
func reasonOf(text string) execpb.NotStarted_Reason {
	for _, r := range []struct {
		words  string
		reason execpb.NotStarted_Reason
	}{
		{"executable file not found", execpb.NotStarted_NOT_FOUND},
		{"no such file or directory", execpb.NotStarted_NOT_FOUND},
		{"permission denied", execpb.NotStarted_NOT_EXECUTABLE},
		{"exec format error", execpb.NotStarted_BAD_FORMAT},
		{"cwd", execpb.NotStarted_BAD_DIRECTORY},
	} {
		if strings.Contains(strings.ToLower(text), r.words) {
			return r.reason
		}
	}
	return execpb.NotStarted_FAULT
}
