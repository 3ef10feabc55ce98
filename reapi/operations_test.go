package reapi_test

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/hearth-build/hearth/reapi/execution"
	"github.com/hearth-build/hearth/reapi/execution/actionpb"
)

// held makes the fixture's actions run until they are let go or cancelled.
type held struct {
	goOn  chan struct{}
	ended chan error // why each run ended; nil: it was let go
}

func (f *fixture) hold() *held {
	h := &held{goOn: make(chan struct{}), ended: make(chan error, 100)}
	f.run = func(ctx context.Context, task *execution.Task, report execution.Report) *execution.Outcome {
		task.Enter(report, execution.Progress{Step: execution.StepExecution})
		select {
		case <-h.goOn:
			h.ended <- nil
			return &execution.Outcome{Result: &repb.ActionResult{ExitCode: 4}}
		case <-ctx.Done():
			h.ended <- context.Cause(ctx)
			return &execution.Outcome{Err: context.Cause(ctx)}
		}
	}
	return h
}

// start executes an action and returns the first message about it; the stream
// stays open until the test ends.
func (f *fixture) start(ctx context.Context, salt string) (*longrunningpb.Operation, repb.Execution_ExecuteClient) {
	f.t.Helper()
	stream, err := repb.NewExecutionClient(f.conn).Execute(ctx, &repb.ExecuteRequest{ActionDigest: f.putMessage(&repb.Action{Salt: []byte(salt)})})
	if err != nil {
		f.t.Fatal(err)
	}
	op, err := stream.Recv()
	if err != nil {
		f.t.Fatal(err)
	}
	return op, stream
}

func (f *fixture) operations() longrunningpb.OperationsClient {
	return longrunningpb.NewOperationsClient(f.conn)
}

// metadataOf checks an operation that is not done and returns what it says.
func metadataOf(t *testing.T, op *longrunningpb.Operation) *repb.ExecuteOperationMetadata {
	t.Helper()
	md := &repb.ExecuteOperationMetadata{}
	if err := op.GetMetadata().UnmarshalTo(md); err != nil || op.GetDone() {
		t.Fatalf("%v: %v", op, err)
	}
	return md
}

// eventually polls until a condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("it never happened: %s", what)
		}
	}
}

// REAPI F16: the state of an operation, asked for once, or waited for.
func TestGetAndWaitOperation(t *testing.T) {
	f := newFixture(t)
	h := f.hold()
	ctx := t.Context()
	first, _ := f.start(ctx, "a")
	name := first.GetName()
	eventually(t, "it executes", func() bool {
		op, err := f.operations().GetOperation(ctx, &longrunningpb.GetOperationRequest{Name: name})
		return err == nil && op.GetName() == name && metadataOf(t, op).GetStage() == repb.ExecutionStage_EXECUTING
	})
	begin := time.Now()
	op, err := f.operations().WaitOperation(ctx, &longrunningpb.WaitOperationRequest{Name: name, Timeout: durationpb.New(50 * time.Millisecond)})
	if err != nil || op.GetDone() || time.Since(begin) < 50*time.Millisecond {
		t.Errorf("after %v: %v, %v", time.Since(begin), op, err)
	}
	wait, err := repb.NewExecutionClient(f.conn).WaitExecution(ctx, &repb.WaitExecutionRequest{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	same, err := wait.Recv()
	got, getErr := f.operations().GetOperation(ctx, &longrunningpb.GetOperationRequest{Name: name})
	if err != nil || getErr != nil || !proto.Equal(same, got) {
		t.Errorf("WaitExecution says %v (%v), GetOperation %v (%v)", same, err, got, getErr)
	}
	close(h.goOn)
	if op, err = f.operations().WaitOperation(ctx, &longrunningpb.WaitOperationRequest{Name: name}); err != nil {
		t.Fatal(err)
	}
	if response(t, []*longrunningpb.Operation{op}).GetResult().GetExitCode() != 4 {
		t.Errorf("%v", op)
	}
	if got, err = f.operations().GetOperation(ctx, &longrunningpb.GetOperationRequest{Name: name}); err != nil || !proto.Equal(op, got) {
		t.Errorf("GetOperation says %v (%v)", got, err)
	}
	for _, timeout := range []*durationpb.Duration{durationpb.New(-1), {Seconds: 1, Nanos: -1}} {
		_, err = f.operations().WaitOperation(ctx, &longrunningpb.WaitOperationRequest{Name: name, Timeout: timeout})
		wantCode(t, "a bad timeout", err, codes.InvalidArgument)
	}
}

// REAPI F8: an operation that is not done says what is known of it, and never
// names a worker, which would mean that all is known (REAPI H1).
func TestPartialMetadata(t *testing.T) {
	f := newFixture(t)
	h := f.hold()
	first, _ := f.start(t.Context(), "a")
	if md := metadataOf(t, first).GetPartialExecutionMetadata(); md.GetQueuedTimestamp() == nil {
		t.Errorf("at first: %v", md)
	}
	var md *repb.ExecutedActionMetadata
	eventually(t, "it executes", func() bool {
		op, err := f.operations().GetOperation(t.Context(), &longrunningpb.GetOperationRequest{Name: first.GetName()})
		if err != nil {
			t.Fatal(err)
		}
		md = metadataOf(t, op).GetPartialExecutionMetadata()
		return md.GetExecutionStartTimestamp() != nil
	})
	if md.GetWorker() != "" || md.GetQueuedTimestamp() == nil || md.GetWorkerStartTimestamp() == nil || md.GetExecutionCompletedTimestamp() != nil || md.GetWorkerCompletedTimestamp() != nil {
		t.Errorf("metadata %v", md)
	}
	p := &actionpb.ActionProgress{}
	if len(md.GetAuxiliaryMetadata()) != 1 || md.GetAuxiliaryMetadata()[0].UnmarshalTo(p) != nil {
		t.Fatalf("auxiliary metadata %v", md.GetAuxiliaryMetadata())
	}
	if url := md.GetAuxiliaryMetadata()[0].GetTypeUrl(); url != "type.googleapis.com/hearth.v1.ActionProgress" {
		t.Errorf("type URL %s", url)
	}
	if p.GetPhase() != actionpb.ActionProgress_EXECUTION || p.GetPhaseStartUnixMillis() < p.GetAcceptedUnixMillis() || p.GetAcceptedUnixMillis() == 0 {
		t.Errorf("progress %v", p)
	}
	close(h.goOn)
}

// REAPI F17, F55, F3: a cancelled operation is done, in the way of this API.
func TestCancelOperation(t *testing.T) {
	f := newFixture(t)
	h := f.hold()
	first, stream := f.start(t.Context(), "a")
	if _, err := f.operations().CancelOperation(t.Context(), &longrunningpb.CancelOperationRequest{Name: first.GetName()}); err != nil {
		t.Fatal(err)
	}
	ops, err := collect(stream)
	if err != nil {
		t.Fatal(err)
	}
	if s := response(t, append([]*longrunningpb.Operation{first}, ops...)).GetStatus(); codes.Code(s.GetCode()) != codes.Canceled {
		t.Errorf("status %v", s)
	}
	if err := <-h.ended; err == nil {
		t.Error("the run was not cancelled")
	}
	if _, err := f.operations().CancelOperation(t.Context(), &longrunningpb.CancelOperationRequest{Name: first.GetName()}); err != nil {
		t.Errorf("once more: %v", err)
	}
	op, err := f.operations().GetOperation(t.Context(), &longrunningpb.GetOperationRequest{Name: first.GetName()})
	if err != nil || !op.GetDone() || op.GetError() != nil {
		t.Errorf("%v, %v", op, err)
	}
}

// REAPI F17: with merged requests a cancellation hits one operation alone.
func TestCancelOneOfTwo(t *testing.T) {
	f := newFixture(t)
	h := f.hold()
	one, stream := f.start(t.Context(), "a")
	two, other := f.start(t.Context(), "a")
	if one.GetName() == two.GetName() {
		t.Fatal("two requests have one name")
	}
	if _, err := f.operations().CancelOperation(t.Context(), &longrunningpb.CancelOperationRequest{Name: one.GetName()}); err != nil {
		t.Fatal(err)
	}
	ops, err := collect(stream)
	if err != nil {
		t.Fatal(err)
	}
	if s := response(t, append([]*longrunningpb.Operation{one}, ops...)).GetStatus(); codes.Code(s.GetCode()) != codes.Canceled {
		t.Errorf("the one that was cancelled: %v", s)
	}
	close(h.goOn)
	if ops, err = collect(other); err != nil {
		t.Fatal(err)
	}
	if resp := response(t, append([]*longrunningpb.Operation{two}, ops...)); resp.GetResult().GetExitCode() != 4 || resp.GetCachedResult() {
		t.Errorf("the other: %v", resp)
	}
}

// REAPI F18, F12: a deleted operation is unknown, and its run goes on.
func TestDeleteOperation(t *testing.T) {
	f := newFixture(t)
	h := f.hold()
	first, stream := f.start(t.Context(), "a")
	name := first.GetName()
	if _, err := f.operations().DeleteOperation(t.Context(), &longrunningpb.DeleteOperationRequest{Name: name}); err != nil {
		t.Fatal(err)
	}
	f.wantUnknown(t.Context(), name)
	close(h.goOn)
	if ops, err := collect(stream); err != nil || response(t, append([]*longrunningpb.Operation{first}, ops...)).GetResult().GetExitCode() != 4 {
		t.Errorf("%v, %v", ops, err)
	}
}

// wantUnknown checks that no RPC knows an operation.
func (f *fixture) wantUnknown(ctx context.Context, name string) {
	f.t.Helper()
	for rpc, call := range map[string]func() error{
		"GetOperation": func() error {
			_, err := f.operations().GetOperation(ctx, &longrunningpb.GetOperationRequest{Name: name})
			return err
		},
		"WaitOperation": func() error {
			_, err := f.operations().WaitOperation(ctx, &longrunningpb.WaitOperationRequest{Name: name})
			return err
		},
		"CancelOperation": func() error {
			_, err := f.operations().CancelOperation(ctx, &longrunningpb.CancelOperationRequest{Name: name})
			return err
		},
		"DeleteOperation": func() error {
			_, err := f.operations().DeleteOperation(ctx, &longrunningpb.DeleteOperationRequest{Name: name})
			return err
		},
		"WaitExecution": func() error {
			stream, err := repb.NewExecutionClient(f.conn).WaitExecution(ctx, &repb.WaitExecutionRequest{Name: name})
			if err == nil {
				_, err = stream.Recv()
			}
			return err
		},
	} {
		if code := status.Code(call()); code != codes.NotFound {
			f.t.Errorf("%s of %q: %v", rpc, name, code)
		}
	}
}

// REAPI F12, F16, F17, F19: no RPC knows what is not there, whatever the name.
func TestUnknownOperations(t *testing.T) {
	f := newFixture(t)
	for _, name := range []string{"", "nonsense", "operations/", "operations/" + strings.Repeat("x", 5000), "\u0000", "operations/../operations/1"} {
		f.wantUnknown(t.Context(), name)
	}
}

// REAPI F9: names are unguessable, unique, and not those of the action.
func TestOperationNames(t *testing.T) {
	f := newFixture(t)
	f.run = func(context.Context, *execution.Task, execution.Report) *execution.Outcome {
		return &execution.Outcome{Result: &repb.ActionResult{}}
	}
	seen := map[string]bool{}
	for range 20 {
		op, stream := f.start(t.Context(), "a")
		if _, err := collect(stream); err != nil {
			t.Fatal(err)
		}
		if name := op.GetName(); seen[name] || len(name) < 32 || strings.Contains(name, digest("a").GetHash()) {
			t.Errorf("name %q", name)
		}
		seen[op.GetName()] = true
	}
}

// list goes through all pages.
func (f *fixture) list(ctx context.Context, prefix string, size int32) (names []string, pages int) {
	f.t.Helper()
	req := &longrunningpb.ListOperationsRequest{Name: prefix, PageSize: size}
	for {
		resp, err := f.operations().ListOperations(ctx, req)
		if err != nil {
			f.t.Fatal(err)
		}
		pages++
		for _, op := range resp.GetOperations() {
			names = append(names, op.GetName())
		}
		if size > 0 && len(resp.GetOperations()) > int(size) {
			f.t.Errorf("%d operations on a page of %d", len(resp.GetOperations()), size)
		}
		if resp.GetNextPageToken() == "" {
			return names, pages
		}
		req.PageToken = resp.GetNextPageToken()
	}
}

// REAPI F18: all pages together list each operation once, the oldest first, and
// those alone whose names begin so.
func TestListOperations(t *testing.T) {
	f := newFixture(t)
	h := f.hold()
	ctx := t.Context()
	var names []string
	for i := range 7 {
		op, _ := f.start(ctx, fmt.Sprint(i))
		names = append(names, op.GetName())
	}
	for _, tc := range []struct {
		prefix string
		size   int32
		want   []string
		pages  int
	}{
		{"", 0, names, 1},
		{"operations", 3, names, 3},
		{"operations/", 7, names, 1},
		{"operations/", 1, names, 7},
		{names[2], 2, names[2:3], 1},
		{"nothing", 2, nil, 1},
		{"", 1 << 30, names, 1},
	} {
		got, pages := f.list(ctx, tc.prefix, tc.size)
		if fmt.Sprint(got) != fmt.Sprint(tc.want) || pages != tc.pages {
			t.Errorf("%q by %d: %v on %d pages", tc.prefix, tc.size, got, pages)
		}
	}
	page, err := f.operations().ListOperations(ctx, &longrunningpb.ListOperationsRequest{PageSize: 2})
	if err != nil {
		t.Fatal(err)
	}
	for what, req := range map[string]*longrunningpb.ListOperationsRequest{
		"negative size":   {PageSize: -1},
		"garbled token":   {PageToken: page.GetNextPageToken() + "x"},
		"another's token": {PageToken: page.GetNextPageToken(), Name: "operations"},
		"a filter":        {Filter: "done = true"},
	} {
		_, err := f.operations().ListOperations(ctx, req)
		wantCode(t, what, err, codes.InvalidArgument)
	}
	close(h.goOn)
}

// Listing is not watching: an operation that somebody lists is given up all the same.
func TestListingKeepsNothingAlive(t *testing.T) {
	f := newFixtureWith(t, newInstances(), execution.SchedulerOptions{OrphanGrace: 100 * time.Millisecond})
	h := f.hold()
	ctx, cancel := context.WithCancel(t.Context())
	f.start(ctx, "a")
	cancel()
	eventually(t, "the run is cancelled", func() bool {
		f.list(t.Context(), "", 0)
		select {
		case err := <-h.ended:
			return err != nil
		default:
			return false
		}
	})
	eventually(t, "the operation is gone", func() bool { names, _ := f.list(t.Context(), "", 0); return len(names) == 0 })
}

// REAPI F20, K28, K29, I12: a client that goes away, or whose deadline is over,
// does not end its run at once, and does so after the grace.
func TestClientGoesAway(t *testing.T) {
	for name, leave := range map[string]func(context.Context) (context.Context, context.CancelFunc){
		"interrupted": context.WithCancel,
		"deadline": func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, 300*time.Millisecond)
		},
	} {
		t.Run(name, func(t *testing.T) {
			const grace = 500 * time.Millisecond
			f := newFixtureWith(t, newInstances(), execution.SchedulerOptions{OrphanGrace: grace})
			h := f.hold()
			ctx, cancel := leave(t.Context())
			defer cancel()
			_, stream := f.start(ctx, "a")
			eventually(t, "it runs", func() bool { return f.scheduler.Load().Running == 1 })
			if name == "interrupted" {
				cancel()
			}
			_, err := collect(stream)
			if code := status.Code(err); code != codes.Canceled && code != codes.DeadlineExceeded {
				t.Errorf("the stream ended with %v", err)
			}
			gone := time.Now()
			select {
			case <-h.ended:
				t.Error("the run ended with its client")
			case <-time.After(grace / 2):
			}
			if err := <-h.ended; err == nil || time.Since(gone) > 10*time.Second {
				t.Errorf("after %v: %v", time.Since(gone), err)
			}
			eventually(t, "nothing is left", func() bool { return f.scheduler.Load() == execution.Load{} })
		})
	}
}

// REAPI I12: a call that waits ends with its deadline.
func TestWaitOperationHasADeadline(t *testing.T) {
	f := newFixture(t)
	h := f.hold()
	first, _ := f.start(t.Context(), "a")
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := f.operations().WaitOperation(ctx, &longrunningpb.WaitOperationRequest{Name: first.GetName(), Timeout: durationpb.New(time.Hour)})
	wantCode(t, "WaitOperation", err, codes.DeadlineExceeded)
	close(h.goOn)
	if err := <-h.ended; err != nil {
		t.Errorf("the run ended with %v", err)
	}
}

// REAPI I8: a thousand executions that wait on one connection leave room for
// everything else on it.
func TestManyStreamsOnOneConnection(t *testing.T) {
	f := newFixture(t)
	h := f.hold()
	var wg sync.WaitGroup
	const streams = 1000
	var started sync.WaitGroup
	started.Add(streams)
	for range streams {
		wg.Go(func() {
			op, stream := f.start(t.Context(), "the same for all")
			started.Done()
			if ops, err := collect(stream); err != nil || len(ops) == 0 || ops[0].GetName() != op.GetName() {
				t.Errorf("%v, %v", ops, err)
			}
		})
	}
	started.Wait()
	begin := time.Now()
	for i := range 50 {
		d := f.put(fmt.Appendf(nil, "blob %d", i))
		resp, err := repb.NewContentAddressableStorageClient(f.conn).BatchReadBlobs(t.Context(), &repb.BatchReadBlobsRequest{Digests: []*repb.Digest{d}})
		if err != nil || len(resp.GetResponses()) != 1 || resp.GetResponses()[0].GetStatus().GetCode() != 0 {
			t.Fatalf("%v, %v", resp, err)
		}
	}
	if d := time.Since(begin); d > 10*time.Second {
		t.Errorf("50 reads took %v", d)
	}
	close(h.goOn)
	wg.Wait()
}

// REAPI F10, F21, I10, F62: while the server shuts down, what runs is finished and
// its stream gets the end; what waits, or comes later, is told to try again.
func TestDrain(t *testing.T) {
	f := newFixture(t)
	h := f.hold()
	ctx := t.Context()
	running := map[string]repb.Execution_ExecuteClient{}
	for i := range 2 {
		op, stream := f.start(ctx, fmt.Sprint(i))
		running[op.GetName()] = stream
	}
	eventually(t, "both run", func() bool { return f.scheduler.Load().Running == 2 })
	waiting, queued := f.start(ctx, "2")
	eventually(t, "one waits", func() bool { return f.scheduler.Load().Queued == 1 })
	f.server.Drain()
	closed := make(chan error, 1)
	go func() { closed <- f.scheduler.Close(context.WithoutCancel(ctx)) }()
	eventually(t, "new requests are refused", func() bool {
		_, err := f.execute(&repb.ExecuteRequest{ActionDigest: f.putMessage(&repb.Action{Salt: []byte("late")})})
		return status.Code(err) == codes.Unavailable && hasRetryInfo(err)
	})
	close(h.goOn)
	for name, stream := range running {
		ops, err := collect(stream)
		if err != nil || len(ops) == 0 || ops[0].GetName() != name || response(t, ops).GetResult().GetExitCode() != 4 {
			t.Errorf("what ran: %v, %v", ops, err)
		}
	}
	ops, err := collect(queued)
	if err != nil {
		t.Fatal(err)
	}
	told := status.ErrorProto(response(t, append([]*longrunningpb.Operation{waiting}, ops...)).GetStatus())
	if status.Code(told) != codes.Unavailable || !hasRetryInfo(told) {
		t.Errorf("what waited: %v", told)
	}
	if err := <-closed; err != nil {
		t.Errorf("close: %v", err)
	}
}

// REAPI K3: a client that asks again for what it waits for, in a loop, gets each
// time the state at once and in the end the outcome.
func TestWaitExecutionInALoop(t *testing.T) {
	f := newFixture(t)
	h := f.hold()
	first, _ := f.start(t.Context(), "a")
	for range 20 {
		ctx, cancel := context.WithCancel(t.Context())
		wait, err := repb.NewExecutionClient(f.conn).WaitExecution(ctx, &repb.WaitExecutionRequest{Name: first.GetName()})
		if err != nil {
			t.Fatal(err)
		}
		if op, err := wait.Recv(); err != nil || op.GetName() != first.GetName() || op.GetDone() {
			t.Fatalf("%v, %v", op, err)
		}
		cancel() // as a connection that breaks
	}
	wait, err := repb.NewExecutionClient(f.conn).WaitExecution(t.Context(), &repb.WaitExecutionRequest{Name: first.GetName()})
	if err != nil {
		t.Fatal(err)
	}
	close(h.goOn)
	if ops, err := collect(wait); err != nil || response(t, ops).GetResult().GetExitCode() != 4 {
		t.Errorf("%v, %v", ops, err)
	}
}

// from is the context of calls of a client that says this about itself.
func from(t *testing.T, m *repb.RequestMetadata) context.Context {
	t.Helper()
	data, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return metadata.AppendToOutgoingContext(t.Context(), "build.bazel.remote.execution.v2.requestmetadata-bin", string(data))
}

// inOrder makes the fixture's actions run one after another when they are let go,
// and returns their salts in the order in which they ran.
func (f *fixture) inOrder(expect int) (letGo func() []string) {
	h, end := make(chan struct{}), make(chan struct{})
	ran := make(chan string, expect)
	f.run = func(ctx context.Context, task *execution.Task, _ execution.Report) *execution.Outcome {
		salt := string(task.Action.GetSalt())
		until := h
		if salt == "takes one of the two CPUs" {
			until = end
		}
		select {
		case <-until:
		case <-ctx.Done(): // the test failed
		}
		if until == h {
			ran <- salt
		}
		return &execution.Outcome{Result: &repb.ActionResult{}}
	}
	f.send(f.t.Context(), "takes one of the two CPUs", 0)
	return func() (order []string) {
		close(h)
		for range expect {
			order = append(order, <-ran)
		}
		close(end)
		return order
	}
}

// send executes an action and returns when it waits or runs.
func (f *fixture) send(ctx context.Context, salt string, priority int32) {
	f.t.Helper()
	before := f.scheduler.Load()
	stream, err := repb.NewExecutionClient(f.conn).Execute(ctx, &repb.ExecuteRequest{
		ActionDigest:    f.putMessage(&repb.Action{Salt: []byte(salt)}),
		ExecutionPolicy: &repb.ExecutionPolicy{Priority: priority},
	})
	if err == nil {
		_, err = stream.Recv()
	}
	if err != nil {
		f.t.Fatal(err)
	}
	deadline := time.After(10 * time.Second)
	for after := before; after.Running+after.Queued == before.Running+before.Queued; after = f.scheduler.Load() {
		select {
		case <-deadline:
			f.t.Fatal("it is not admitted and does not wait")
		case <-time.After(time.Millisecond):
		}
	}
}

// REAPI I1, I2: who says what invocation it belongs to is served in turn; those
// who say nothing share the turn of their host.
func TestInvocationsTakeTurns(t *testing.T) {
	for name, other := range map[string]*repb.RequestMetadata{
		"invocation":            {ToolInvocationId: "mine"},
		"correlated invocation": {CorrelatedInvocationsId: "mine"},
		"says nothing":          {},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			letGo := f.inOrder(14)
			flood := from(t, &repb.RequestMetadata{ToolInvocationId: strings.Repeat("a long name ", 1000)})
			for i := range 12 { // one runs, one is next
				f.send(flood, fmt.Sprint("flood ", i), 0)
			}
			f.send(from(t, other), "mine 0", 0)
			f.send(from(t, other), "mine 1", 0)
			order := letGo()
			if i, j := slices.Index(order, "mine 0"), slices.Index(order, "mine 1"); i != 3 || j != 5 {
				t.Errorf("order %q", order)
			}
		})
	}
}

// REAPI F35, K25, A13: the priorities that Capabilities promise count, and those
// beyond are as good as the nearest.
func TestPriorities(t *testing.T) {
	f := newFixture(t)
	c, err := repb.NewCapabilitiesClient(f.conn).GetCapabilities(t.Context(), &repb.GetCapabilitiesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	r := c.GetExecutionCapabilities().GetExecutionPriorityCapabilities().GetPriorities()[0]
	letGo := f.inOrder(8)
	f.send(t.Context(), "runs", 0)
	f.send(t.Context(), "next", math.MinInt32)
	f.send(t.Context(), "idle", math.MaxInt32)
	f.send(t.Context(), "idle too", r.GetMaxPriority())
	f.send(t.Context(), "normal", 0)
	f.send(t.Context(), "normal too", 0)
	f.send(t.Context(), "urgent", math.MinInt32)
	f.send(t.Context(), "urgent too", r.GetMinPriority())
	want := []string{"runs", "next", "urgent", "urgent too", "normal", "normal too", "idle", "idle too"}
	if order := letGo(); !slices.Equal(order, want) {
		t.Errorf("order %q, want %q", order, want)
	}
}
