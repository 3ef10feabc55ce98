package reapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/genproto/googleapis/bytestream"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/reapi"
	"github.com/hearth-build/hearth/reapi/execution"
)

// lines is a log of JSON lines.
type lines struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

// Write implements io.Writer.
func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// of are the lines that have a request's ID.
func (l *lines) of(t *testing.T, id string) (found []map[string]any) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range bytes.Lines(l.text.Bytes()) {
		var fields map[string]any
		if err := json.Unmarshal(line, &fields); err != nil {
			t.Fatal(err)
		}
		if fields["request"] == id {
			found = append(found, fields)
		}
	}
	return found
}

// requestID is the ID that a call ended with.
func requestID(trailer metadata.MD) string {
	return strings.Join(trailer.Get(reapi.RequestIDKey), ",")
}

// drained is the trailing metadata of a stream, and what it ended with.
func drained[T any](t *testing.T, stream grpc.ServerStreamingClient[T], err error) (metadata.MD, error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = stream.Recv()
	}
	return stream.Trailer(), err
}

// Each call that fails tells its client an ID, by which the log of the server says
// more: unary calls, streams, and calls that nobody serves.
func TestFailuresHaveIDs(t *testing.T) {
	var log lines
	logger := slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	f := newFixtureWith(t, newInstances(), execution.SchedulerOptions{}, reapi.WithLogger(logger))
	var unary metadata.MD
	_, unaryErr := repb.NewActionCacheClient(f.conn).GetActionResult(t.Context(), &repb.GetActionResultRequest{ActionDigest: digest("none")}, grpc.Trailer(&unary))
	read, err := bytestream.NewByteStreamClient(f.conn).Read(t.Context(), &bytestream.ReadRequest{ResourceName: "nonsense"})
	stream, streamErr := drained(t, read, err)
	running, err := repb.NewExecutionClient(f.conn).Execute(t.Context(), &repb.ExecuteRequest{InstanceName: "not/here", ActionDigest: digest("none")})
	execute, executeErr := drained(t, running, err)
	seen := map[string]bool{}
	for _, tc := range []struct {
		trailer      metadata.MD
		err          error
		method, code string
	}{
		{unary, unaryErr, repb.ActionCache_GetActionResult_FullMethodName, codes.NotFound.String()},
		{stream, streamErr, "/google.bytestream.ByteStream/Read", codes.InvalidArgument.String()},
		{execute, executeErr, repb.Execution_Execute_FullMethodName, status.Code(executeErr).String()},
	} {
		id := requestID(tc.trailer)
		if id == "" || seen[id] {
			t.Errorf("%s: %v has the ID %q", tc.method, tc.err, id)
			continue
		}
		seen[id] = true
		found := log.of(t, id)
		if len(found) != 1 || found[0]["method"] != tc.method || found[0]["code"] != tc.code || found[0]["level"] != "DEBUG" || found[0]["error"] != status.Convert(tc.err).Message() {
			t.Errorf("the log has %v for %v", found, tc.err)
		}
	}
}

// What the server is to blame for is a warning.
func TestFaultsAreLogged(t *testing.T) {
	var log lines
	instances := newInstances()
	instances[""].Results = badDisk{}
	f := newFixtureWith(t, instances, execution.SchedulerOptions{}, reapi.WithLogger(slog.New(slog.NewJSONHandler(&log, nil))))
	var trailer metadata.MD
	_, err := repb.NewActionCacheClient(f.conn).GetActionResult(t.Context(), &repb.GetActionResultRequest{ActionDigest: digest("none")}, grpc.Trailer(&trailer))
	if found := log.of(t, requestID(trailer)); len(found) != 1 || found[0]["level"] != "WARN" || found[0]["code"] != "Internal" {
		t.Errorf("%v: the log has %v", err, found)
	}
}

// The client of an execution knows its operation, whose name the run has, and which
// the line about the action has. The status has no details (REAPI F61).
func TestFailedExecutionsHaveIDs(t *testing.T) {
	f := newFixture(t)
	var began string
	f.run = func(_ context.Context, task *execution.Task, _ execution.Report) *execution.Outcome {
		began = task.Operation
		return &execution.Outcome{Err: errors.New("surprise")}
	}
	ops, err := f.execute(&repb.ExecuteRequest{ActionDigest: f.putMessage(&repb.Action{})})
	if err != nil {
		t.Fatal(err)
	}
	if s := response(t, ops).GetStatus(); began == "" || ops[0].GetName() != began || len(s.GetDetails()) > 0 {
		t.Errorf("the run began with %q, the operation is %q, the status %v", began, ops[0].GetName(), s)
	}
}

// badDisk is an action cache on a disk that fails.
type badDisk struct{}

func (badDisk) Get(context.Context, cas.Digest) (*repb.ActionResult, error) {
	return nil, errors.New("input/output error")
}

func (badDisk) Put(context.Context, cas.Digest, *repb.ActionResult) error {
	return errors.New("input/output error")
}
