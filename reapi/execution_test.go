package reapi_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/tree"
	"github.com/hearth-build/hearth/reapi/execution"
	"github.com/hearth-build/hearth/runners"
)

// execute returns all operations that Execute streams.
func (f *fixture) execute(req *repb.ExecuteRequest) ([]*longrunningpb.Operation, error) {
	stream, err := repb.NewExecutionClient(f.conn).Execute(f.t.Context(), req)
	if err != nil {
		return nil, err
	}
	return collect(stream)
}

func collect(stream interface {
	Recv() (*longrunningpb.Operation, error)
},
) (ops []*longrunningpb.Operation, _ error) {
	for {
		op, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return ops, nil
		}
		if err != nil {
			return ops, err
		}
		ops = append(ops, op)
	}
}

// response checks a finished stream's form and returns what it says.
// REAPI F1, F2, F3, F4, B15.
func response(t *testing.T, ops []*longrunningpb.Operation) *repb.ExecuteResponse {
	t.Helper()
	resp := &repb.ExecuteResponse{}
	for i, op := range ops {
		md := &repb.ExecuteOperationMetadata{}
		if err := op.GetMetadata().UnmarshalTo(md); err != nil {
			t.Fatal(err)
		}
		last := i == len(ops)-1
		switch {
		case op.GetName() == "" || op.GetName() != ops[0].GetName():
			t.Errorf("message %d has the name %q", i, op.GetName())
		case op.GetError() != nil:
			t.Errorf("message %d has an error", i)
		case op.GetDone() != last || (md.GetStage() == repb.ExecutionStage_COMPLETED) != last:
			t.Errorf("message %d of %d: done is %v, stage %v", i, len(ops), op.GetDone(), md.GetStage())
		case md.GetActionDigest() == nil || md.GetDigestFunction() == repb.DigestFunction_UNKNOWN || md.GetStage() == repb.ExecutionStage_UNKNOWN:
			t.Errorf("message %d has the metadata %v", i, md)
		}
		if last {
			if err := op.GetResponse().UnmarshalTo(resp); err != nil {
				t.Fatal(err)
			}
		}
	}
	if resp.GetStatus().GetCode() == 0 && resp.GetResult() == nil {
		t.Error("status OK without a result")
	}
	return resp
}

func hasRetryInfo(err error) bool {
	for _, d := range status.Convert(err).Details() {
		if _, ok := d.(*errdetails.RetryInfo); ok {
			return true
		}
	}
	return false
}

// The status table, REAPI F15, F32, F47, F49-F58, F66: what a client hears of each
// way in which a run can end.
func TestExecuteOutcomes(t *testing.T) {
	result := &repb.ActionResult{ExitCode: 3}
	missing := &cas.MissingError{Digests: []cas.Digest{cas.SHA256.Sum([]byte("a")), cas.BLAKE3.Sum([]byte("b")), cas.SHA256.Sum([]byte("a"))}}
	for _, tc := range []struct {
		name    string
		outcome *execution.Outcome
		code    codes.Code
	}{
		{"exit code", &execution.Outcome{Result: result, Message: "hm"}, codes.OK},
		{"timeout", &execution.Outcome{Result: result, Err: fmt.Errorf("%w after 1s", execution.ErrTimeout)}, codes.DeadlineExceeded},
		{"invalid", &execution.Outcome{Err: execution.ErrInvalid}, codes.InvalidArgument},
		{"invalid tree", &execution.Outcome{Err: fmt.Errorf("x: %w", tree.ErrInvalid)}, codes.InvalidArgument},
		{"missing inputs", &execution.Outcome{Err: fmt.Errorf("inputs: %w", missing)}, codes.FailedPrecondition},
		{"not found", &execution.Outcome{Err: cas.ErrNotFound}, codes.Internal},
		{"bad output", &execution.Outcome{Result: result, Err: tree.ErrOutput}, codes.FailedPrecondition},
		{"platform", &execution.Outcome{Err: runners.ErrPlatform}, codes.FailedPrecondition},
		{"image", &execution.Outcome{Err: runners.ErrImage}, codes.FailedPrecondition},
		{"no podman", &execution.Outcome{Err: runners.ErrBackend}, codes.FailedPrecondition},
		{"lost", &execution.Outcome{Err: runners.ErrLost}, codes.Unavailable},
		{"queue full", &execution.Outcome{Err: execution.ErrQueueFull}, codes.ResourceExhausted},
		{"disk full", &execution.Outcome{Err: cas.ErrNoSpace}, codes.ResourceExhausted},
		{"cancelled", &execution.Outcome{Err: execution.ErrCancelled}, codes.Canceled},
		{"a bug", &execution.Outcome{Err: errors.New("surprise")}, codes.Internal},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFixture(t)
			f.run = func(context.Context, *execution.Task, execution.Report) *execution.Outcome { return tc.outcome }
			ops, err := f.execute(&repb.ExecuteRequest{ActionDigest: f.putMessage(&repb.Action{})})
			if err != nil {
				t.Fatalf("the RPC failed: %v", err)
			}
			resp := response(t, ops)
			if got := codes.Code(resp.GetStatus().GetCode()); got != tc.code {
				t.Errorf("status %v", resp.GetStatus())
			}
			if resp.GetResult().GetExitCode() != tc.outcome.Result.GetExitCode() || resp.GetMessage() != tc.outcome.Message {
				t.Errorf("response %v", resp)
			}
			err = status.ErrorProto(resp.GetStatus())
			if want := tc.code == codes.ResourceExhausted || tc.code == codes.Unavailable; hasRetryInfo(err) != want {
				t.Errorf("retry info is %v", !want)
			}
		})
	}
}

// REAPI F44, F60, F61: each missing blob is named once, in the form that makes
// Bazel upload it.
func TestExecuteNamesMissingBlobs(t *testing.T) {
	f := newFixture(t)
	absent := cas.SHA256.Sum([]byte("no such action"))
	_, err := f.execute(&repb.ExecuteRequest{ActionDigest: absent.Proto()})
	wantCode(t, "absent action", err, codes.FailedPrecondition)
	assertViolations(t, err, "blobs/"+absent.Name())

	one, two := cas.SHA256.Sum([]byte("a")), cas.BLAKE3.Sum([]byte("b"))
	f.run = func(context.Context, *execution.Task, execution.Report) *execution.Outcome {
		return &execution.Outcome{Err: &cas.MissingError{Digests: []cas.Digest{one, two, one}}}
	}
	ops, err := f.execute(&repb.ExecuteRequest{ActionDigest: f.putMessage(&repb.Action{})})
	if err != nil {
		t.Fatal(err)
	}
	assertViolations(t, status.ErrorProto(response(t, ops).GetStatus()),
		fmt.Sprintf("blobs/%s/1", one.Hash()), fmt.Sprintf("blobs/blake3/%s/1", two.Hash()))
}

func assertViolations(t *testing.T, err error, subjects ...string) {
	t.Helper()
	details := status.Convert(err).Details()
	if len(details) != 1 {
		t.Fatalf("details %v", details)
	}
	failure, ok := details[0].(*errdetails.PreconditionFailure)
	if !ok || len(failure.GetViolations()) != len(subjects) {
		t.Fatalf("details %v", details)
	}
	for i, v := range failure.GetViolations() {
		if v.GetType() != "MISSING" || v.GetSubject() != subjects[i] {
			t.Errorf("violation %v, want %s", v, subjects[i])
		}
	}
}

// REAPI F5, F10-F14: the first message comes at once; WaitExecution joins, also
// after the end.
func TestWaitExecution(t *testing.T) {
	f := newFixture(t)
	goOn := make(chan struct{})
	f.run = func(context.Context, *execution.Task, execution.Report) *execution.Outcome {
		<-goOn
		return &execution.Outcome{Result: &repb.ActionResult{ExitCode: 9}}
	}
	client := repb.NewExecutionClient(f.conn)
	ctx, cancel := context.WithCancel(t.Context())
	stream, err := client.Execute(ctx, &repb.ExecuteRequest{ActionDigest: f.putMessage(&repb.Action{})})
	if err != nil {
		t.Fatal(err)
	}
	first, err := stream.Recv()
	if err != nil || first.GetDone() {
		t.Fatalf("%v, %v", first, err)
	}
	cancel() // the client's connection breaks

	wait, err := client.WaitExecution(t.Context(), &repb.WaitExecutionRequest{Name: first.GetName()})
	if err != nil {
		t.Fatal(err)
	}
	if op, err := wait.Recv(); err != nil || op.GetDone() {
		t.Fatalf("%v, %v", op, err)
	}
	close(goOn)
	ops, err := collect(wait)
	if err != nil || response(t, ops).GetResult().GetExitCode() != 9 {
		t.Errorf("%v, %v", ops, err)
	}
	again, err := client.WaitExecution(t.Context(), &repb.WaitExecutionRequest{Name: first.GetName()})
	if err != nil {
		t.Fatal(err)
	}
	if ops, err = collect(again); err != nil || len(ops) != 1 || response(t, ops).GetResult().GetExitCode() != 9 {
		t.Errorf("%v, %v", ops, err)
	}
	for _, name := range []string{"", "nonsense", first.GetName() + "x"} {
		wait, err := client.WaitExecution(t.Context(), &repb.WaitExecutionRequest{Name: name})
		if err == nil {
			_, err = wait.Recv()
		}
		wantCode(t, "unknown name "+name, err, codes.NotFound)
	}
}

// REAPI F31, F43, F30: requests that are refused, and what is inlined.
func TestExecuteRequests(t *testing.T) {
	f := newFixture(t)
	for name, d := range badDigests() {
		_, err := f.execute(&repb.ExecuteRequest{ActionDigest: d})
		wantCode(t, name, err, codes.InvalidArgument)
	}
	stdout := f.put([]byte("hello"))
	f.run = func(context.Context, *execution.Task, execution.Report) *execution.Outcome {
		return &execution.Outcome{Result: &repb.ActionResult{StdoutDigest: stdout}}
	}
	ops, err := f.execute(&repb.ExecuteRequest{ActionDigest: f.putMessage(&repb.Action{}), InlineStdout: true})
	if err != nil {
		t.Fatal(err)
	}
	if r := response(t, ops).GetResult(); string(r.GetStdoutRaw()) != "hello" || r.GetStdoutDigest() == nil {
		t.Errorf("result %v", r)
	}
}

// Headers override platform properties; REAPI F35: priorities are clamped.
func TestExecuteHeaders(t *testing.T) {
	f := newFixture(t)
	got := make(chan []runners.Property, 1)
	f.run = func(_ context.Context, task *execution.Task, _ execution.Report) *execution.Outcome {
		got <- task.Overrides
		return &execution.Outcome{Result: &repb.ActionResult{}}
	}
	ctx := metadata.AppendToOutgoingContext(t.Context(), "x-buildbuddy-platform.container-image", "docker://x", "x-other", "1")
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	stream, err := repb.NewExecutionClient(f.conn).Execute(ctx, &repb.ExecuteRequest{
		ActionDigest:    f.putMessage(&repb.Action{}),
		ExecutionPolicy: &repb.ExecutionPolicy{Priority: 1 << 30},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := collect(stream); err != nil {
		t.Fatal(err)
	}
	if o := <-got; len(o) != 1 || o[0] != (runners.Property{Name: "container-image", Value: "docker://x"}) {
		t.Errorf("overrides %v", o)
	}
}
