package reapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"testing"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/genproto/googleapis/bytestream"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
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

func requestID(err error) string {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.RequestInfo); ok {
			return info.GetRequestId()
		}
	}
	return ""
}

// Each call that fails tells its client an ID, by which the log of the server says
// more: unary calls, streams, and calls that nobody serves.
func TestFailuresHaveIDs(t *testing.T) {
	var log lines
	logger := slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	f := newFixtureWith(t, newInstances(), execution.SchedulerOptions{}, reapi.WithLogger(logger))
	_, unary := repb.NewActionCacheClient(f.conn).GetActionResult(t.Context(), &repb.GetActionResultRequest{ActionDigest: digest("none")})
	_, stream := f.read(&bytestream.ReadRequest{ResourceName: "nonsense"})
	_, execute := f.execute(&repb.ExecuteRequest{InstanceName: "not/here", ActionDigest: digest("none")})
	seen := map[string]bool{}
	for _, tc := range []struct {
		err          error
		method, code string
	}{
		{unary, repb.ActionCache_GetActionResult_FullMethodName, codes.NotFound.String()},
		{stream, "/google.bytestream.ByteStream/Read", codes.InvalidArgument.String()},
		{execute, repb.Execution_Execute_FullMethodName, status.Code(execute).String()},
	} {
		id := requestID(tc.err)
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
	_, err := repb.NewActionCacheClient(f.conn).GetActionResult(t.Context(), &repb.GetActionResultRequest{ActionDigest: digest("none")})
	if found := log.of(t, requestID(err)); len(found) != 1 || found[0]["level"] != "WARN" || found[0]["code"] != "Internal" {
		t.Errorf("%v: the log has %v", err, found)
	}
}

// The client of an execution gets the name of the operation that the run began
// with, which is what the line about the action has.
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
	if id := requestID(status.ErrorProto(response(t, ops).GetStatus())); id == "" || id != began || id != ops[0].GetName() {
		t.Errorf("ID %q, the run began with %q, the operation is %q", id, began, ops[0].GetName())
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
