package buildbuddytest_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/hearth-build/hearth/reapi/buildbuddy/buildbuddypb"
	"github.com/hearth-build/hearth/reapi/buildbuddy/buildbuddytest"
)

// client is an executor that says what a test wants.
type client struct {
	t    *testing.T
	app  *buildbuddytest.App
	conn *grpc.ClientConn
	buildbuddypb.SchedulerClient
}

func newClient(t *testing.T) *client {
	t.Helper()
	c := &client{t: t, app: buildbuddytest.NewApp("key")}
	c.app.Lease, c.app.Grace = time.Second, time.Millisecond
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	c.app.Serve(server)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }() // ends with Stop
	if c.conn, err = grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials())); err != nil {
		t.Fatal(err)
	}
	c.SchedulerClient = buildbuddypb.NewSchedulerClient(c.conn)
	t.Cleanup(func() {
		err := c.conn.Close()
		server.Stop()
		if err := errors.Join(err, <-served); err != nil {
			t.Error(err)
		}
	})
	return c
}

// as is a context for calls with a header.
func (c *client) as(header, value string) context.Context {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Minute)
	c.t.Cleanup(cancel)
	return metadata.AppendToOutgoingContext(ctx, header, value)
}

func (c *client) own() context.Context { return c.as("x-buildbuddy-api-key", "key") }

func (c *client) owners(t *buildbuddytest.Task) context.Context {
	return c.as("x-buildbuddy-jwt", t.Token())
}

// register registers an executor, and returns when it was offered the task.
func (c *client) register(id string, task *buildbuddytest.Task) buildbuddypb.Scheduler_RegisterAndStreamWorkClient {
	c.t.Helper()
	stream, err := c.RegisterAndStreamWork(c.own())
	if err != nil {
		c.t.Fatal(err)
	}
	if err := stream.Send(&buildbuddypb.RegisterAndStreamWorkRequest{RegisterExecutorRequest: &buildbuddypb.RegisterExecutorRequest{Node: &buildbuddypb.ExecutionNode{
		Host: "h", Port: 1, ExecutorId: id, ExecutorHostId: "h", OsFamily: "linux", Arch: "amd64", AssignableMemoryBytes: 1, AssignableMilliCpu: 1,
	}}}); err != nil {
		c.t.Fatal(err)
	}
	message, err := stream.Recv()
	if err != nil || message.GetEnqueueTaskReservationRequest().GetTaskId() != task.ID() {
		c.t.Fatalf("%v, %v, want an offer of %s", message, err, task.ID())
	}
	return stream
}

func (c *client) submit() *buildbuddytest.Task {
	c.t.Helper()
	task, err := c.app.Submit(buildbuddytest.Spec{
		Request: &repb.ExecuteRequest{ActionDigest: &repb.Digest{Hash: "aa", SizeBytes: 1}}, Action: &repb.Action{}, Command: &repb.Command{}, Group: "group",
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return task
}

// call is one LeaseTask call.
type call struct {
	c      *client
	task   string
	stream buildbuddypb.Scheduler_LeaseTaskClient
}

func (c *client) lease(ctx context.Context, task *buildbuddytest.Task) *call {
	c.t.Helper()
	stream, err := c.LeaseTask(ctx)
	if err != nil {
		c.t.Fatal(err)
	}
	return &call{c, task.ID(), stream}
}

// say sends a message of an executor, and expects an answer, or an error with the code.
func (l *call) say(executor string, m *buildbuddypb.LeaseTaskRequest, want codes.Code) *buildbuddypb.LeaseTaskResponse {
	l.c.t.Helper()
	m.TaskId, m.ExecutorId = l.task, executor
	if err := l.stream.Send(m); err != nil && !errors.Is(err, io.EOF) {
		l.c.t.Fatal(err)
	}
	resp, err := l.stream.Recv()
	if status.Code(err) != want {
		l.c.t.Fatalf("%v: %v, %v, want %v", m, resp, err, want)
	}
	return resp
}

// publish says of a task what it becomes, and returns how that ends.
func (c *client) publish(task *buildbuddytest.Task, stages ...repb.ExecutionStage_Value) error {
	c.t.Helper()
	stream, err := c.conn.NewStream(c.owners(task), &grpc.StreamDesc{ClientStreams: true}, "/build.bazel.remote.execution.v2.Execution/PublishOperation")
	if err != nil {
		c.t.Fatal(err)
	}
	for _, stage := range stages {
		md, err := anypb.New(&repb.ExecuteOperationMetadata{Stage: stage, ActionDigest: &repb.Digest{Hash: "aa", SizeBytes: 1}})
		if err != nil {
			c.t.Fatal(err)
		}
		m := &longrunningpb.Operation{Name: task.ID(), Metadata: md}
		if stage == repb.ExecutionStage_COMPLETED {
			body, err := anypb.New(&repb.ExecuteResponse{Status: &rpcstatus.Status{Code: int32(codes.Unavailable)}})
			if err != nil {
				c.t.Fatal(err)
			}
			m.Done, m.Result = true, &longrunningpb.Operation_Response{Response: body}
		}
		if err := stream.SendMsg(m); err != nil {
			break // which to receive tells of
		}
	}
	return errors.Join(stream.CloseSend(), stream.RecvMsg(&emptypb.Empty{}))
}

// violated expects that the last thing was a breach of the protocol.
func (c *client) violated(text string) {
	c.t.Helper()
	if v := c.app.Violations(); len(v) != 1 || !strings.Contains(v[0], text) {
		c.t.Errorf("the breaches are %q, want one: %s", v, text)
	}
}

const (
	ok      = codes.OK
	breach  = codes.FailedPrecondition
	running = repb.ExecutionStage_EXECUTING
	done    = repb.ExecutionStage_COMPLETED
)

// TestATaskFromBeginToEnd: an executor that keeps to the rules breaks none.
func TestATaskFromBeginToEnd(t *testing.T) {
	c := newClient(t)
	task := c.submit()
	c.register("a", task)
	l := c.lease(c.owners(task), task)
	if first := l.say("a", &buildbuddypb.LeaseTaskRequest{}, ok); len(first.GetSerializedTask()) == 0 || first.GetLeaseDurationSeconds() != 1 || first.GetLeaseId() == "" {
		t.Errorf("the lease is %v", first)
	}
	if err := c.publish(task, running, done); err != nil {
		t.Fatal(err)
	}
	if last := l.say("a", &buildbuddypb.LeaseTaskRequest{Finalize: true}, ok); !last.GetClosedCleanly() {
		t.Errorf("the end of the lease is %v", last)
	}
	if resp, err := task.Wait(t.Context()); err != nil || codes.Code(resp.GetStatus().GetCode()) != codes.Unavailable {
		t.Errorf("the outcome is %v, %v", resp, err)
	}
	if v := c.app.Violations(); len(v) > 0 {
		t.Errorf("the rules were broken: %q", v)
	}
}

// TestRefusesStrangers: who calls must be known, and the right one for the call.
func TestRefusesStrangers(t *testing.T) {
	c := newClient(t)
	stream, err := c.RegisterAndStreamWork(c.as("x-buildbuddy-api-key", "wrong"))
	if err != nil {
		t.Fatal(err)
	}
	if m, err := stream.Recv(); status.Code(err) != codes.Unauthenticated {
		t.Errorf("a wrong key: %v, %v", m, err)
	}
	task := c.submit()
	c.register("a", task)
	c.lease(c.own(), task).say("a", &buildbuddypb.LeaseTaskRequest{}, breach)
	c.violated("with an API key")
}

// TestALeaseIsOneExecutors: nobody else gets the task, until the lease was not renewed
// in time.
func TestALeaseIsOneExecutors(t *testing.T) {
	c := newClient(t)
	task := c.submit()
	c.register("a", task)
	c.register("b", task)
	l := c.lease(c.owners(task), task)
	l.say("a", &buildbuddypb.LeaseTaskRequest{}, ok)
	c.lease(c.owners(task), task).say("b", &buildbuddypb.LeaseTaskRequest{}, codes.NotFound)
	if resp, err := l.stream.Recv(); status.Code(err) != codes.DeadlineExceeded || task.Expired() != 1 {
		t.Fatalf("a lease that is not renewed: %v, %v", resp, err)
	}
	c.lease(c.owners(task), task).say("b", &buildbuddypb.LeaseTaskRequest{}, ok)
	if err := c.publish(task, done, running); status.Code(err) != breach {
		t.Errorf("a task that runs after its end: %v", err)
	}
	c.violated("goes from")
}

// TestBreaches: each is told, and remembered.
func TestBreaches(t *testing.T) {
	for name, test := range map[string]struct {
		text string
		do   func(c *client, task *buildbuddytest.Task)
	}{
		"finalizes without a lease": {"that it does not have", func(c *client, task *buildbuddytest.Task) {
			c.lease(c.owners(task), task).say("a", &buildbuddypb.LeaseTaskRequest{Finalize: true}, breach)
		}},
		"leases what it has": {"which it has", func(c *client, task *buildbuddytest.Task) {
			c.lease(c.owners(task), task).say("a", &buildbuddypb.LeaseTaskRequest{}, ok)
			c.lease(c.owners(task), task).say("a", &buildbuddypb.LeaseTaskRequest{}, breach)
		}},
		"leases what it was not offered": {"which it was not offered", func(c *client, task *buildbuddytest.Task) {
			c.lease(c.owners(task), task).say("b", &buildbuddypb.LeaseTaskRequest{}, breach)
		}},
		"finalizes before it publishes": {"before its outcome was published", func(c *client, task *buildbuddytest.Task) {
			l := c.lease(c.owners(task), task)
			l.say("a", &buildbuddypb.LeaseTaskRequest{}, ok)
			if err := c.publish(task, running); err != nil {
				c.t.Error(err)
			}
			l.say("a", &buildbuddypb.LeaseTaskRequest{Finalize: true}, breach)
		}},
		"gives back without a reason": {"without a reason", func(c *client, task *buildbuddytest.Task) {
			l := c.lease(c.owners(task), task)
			l.say("a", &buildbuddypb.LeaseTaskRequest{}, ok)
			l.say("a", &buildbuddypb.LeaseTaskRequest{ReEnqueue: true}, breach)
		}},
		"gives back what it published": {"after its outcome was published", func(c *client, task *buildbuddytest.Task) {
			l := c.lease(c.owners(task), task)
			l.say("a", &buildbuddypb.LeaseTaskRequest{}, ok)
			if err := c.publish(task, done); err != nil {
				c.t.Error(err)
			}
			reason, err := proto.Marshal(&rpcstatus.Status{Code: 1, Message: "because"})
			if err != nil {
				c.t.Error(err)
			}
			l.say("a", &buildbuddypb.LeaseTaskRequest{ReEnqueue: true, ReEnqueueReason: reason}, breach)
		}},
		"publishes without a lease": {"which nobody has", func(c *client, task *buildbuddytest.Task) {
			if err := c.publish(task, running); status.Code(err) != breach {
				c.t.Error(err)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			c := newClient(t)
			c.app.Lease = time.Minute
			task := c.submit()
			c.register("a", task)
			test.do(c, task)
			c.violated(test.text)
		})
	}
}

// TestTheOrderOfARegistration: who says nothing of itself, or goes on after it left,
// breaks the rules.
func TestTheOrderOfARegistration(t *testing.T) {
	c := newClient(t)
	task := c.submit()
	left := c.register("a", task)
	for _, m := range []*buildbuddypb.RegisterAndStreamWorkRequest{
		{ShuttingDownRequest: &buildbuddypb.ShuttingDownRequest{TaskId: []string{task.ID()}}}, {AskForMoreWorkRequest: &buildbuddypb.AskForMoreWorkRequest{}},
	} {
		if err := left.Send(m); err != nil {
			t.Fatal(err)
		}
	}
	if m, err := left.Recv(); status.Code(err) != breach {
		t.Errorf("%v, %v", m, err)
	}
	c.violated("an executor that leaves said")
}
