package buildbuddytest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/hearth-build/hearth/reapi/buildbuddy/buildbuddypb"
)

// App is the server. Its fields are set before it serves.
type App struct {
	buildbuddypb.UnimplementedSchedulerServer
	// APIKey is what executors must show.
	APIKey string
	// Lease is how long one lasts, in whole seconds, and Grace how much longer the app
	// waits before it gives the task to another.
	Lease, Grace time.Duration
	// Ask: the app offers a new task only to executors that ask for more.
	Ask bool

	mu         sync.Mutex // guards what follows
	tasks      map[string]*Task
	submitted  []*Task // in that order
	executors  []*executor
	violations []string
	fault      Fault
	deaf       bool
	broken     chan struct{} // closed to break all streams
}

var _ buildbuddypb.SchedulerServer = (*App)(nil)

// Calls that a Fault can be in.
const (
	CallRegister = "register"
	CallLease    = "lease"
	CallPublish  = "publish"
	CallAck      = "acknowledge what was published"
)

// Fault is called in each call, with the task that it is about. What it returns ends
// the call.
type Fault func(call, task string) error

// NewApp returns an App without tasks.
func NewApp(apiKey string) *App {
	return &App{APIKey: apiKey, Lease: time.Minute, Grace: 5 * time.Second, tasks: map[string]*Task{}, broken: make(chan struct{})}
}

// ServeScheduler adds the scheduler to a server.
func (a *App) ServeScheduler(s *grpc.Server) { buildbuddypb.RegisterSchedulerServer(s, a) }

// Serve adds to a server all that executors call.
func (a *App) Serve(s *grpc.Server) {
	a.ServeScheduler(s)
	s.RegisterService(&grpc.ServiceDesc{
		ServiceName: "build.bazel.remote.execution.v2.Execution",
		HandlerType: (*any)(nil),
		Streams:     []grpc.StreamDesc{a.PublishOperation()},
	}, a)
}

// SetFault sets what calls can run into; nil: nothing.
func (a *App) SetFault(f Fault) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.fault = f
}

// SetDeaf makes the app one that does not hear what is said on the streams of leases.
func (a *App) SetDeaf(deaf bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.deaf = deaf
}

// BreakStreams ends all streams, as an app does that is started again.
func (a *App) BreakStreams() {
	a.mu.Lock()
	defer a.mu.Unlock()
	close(a.broken)
	a.broken = make(chan struct{})
}

// Violations are what executors did that the protocol does not allow.
func (a *App) Violations() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.violations)
}

// Executors are those that are registered now.
func (a *App) Executors() []*buildbuddypb.ExecutionNode {
	a.mu.Lock()
	defer a.mu.Unlock()
	nodes := make([]*buildbuddypb.ExecutionNode, 0, len(a.executors))
	for _, e := range a.executors {
		nodes = append(nodes, e.node)
	}
	return nodes
}

// breaking is closed when streams that begin now should break.
func (a *App) breaking() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.broken
}

func errBroken() error { return status.Error(codes.Unavailable, "the app is started again") }

func (a *App) violateLocked(format string, args ...any) error {
	text := fmt.Sprintf(format, args...)
	a.violations = append(a.violations, text)
	return status.Error(codes.FailedPrecondition, "the protocol does not allow that: "+text)
}

func (a *App) faultLocked(call, task string) error {
	if a.fault == nil {
		return nil
	}
	return a.fault(call, task)
}

// The headers in which callers say who they are.
const (
	apiKeyHeader = "x-buildbuddy-api-key"
	jwtHeader    = "x-buildbuddy-jwt"
)

// ownLocked refuses calls that are not an executor's own.
func (a *App) ownLocked(ctx context.Context) error {
	keys := metadata.ValueFromIncomingContext(ctx, apiKeyHeader)
	if len(metadata.ValueFromIncomingContext(ctx, jwtHeader)) > 0 {
		return a.violateLocked("an executor's own call in the name of a task's owner")
	}
	if len(keys) != 1 || keys[0] != a.APIKey {
		return status.Error(codes.Unauthenticated, "that is not the API key")
	}
	return nil
}

// ownersLocked refuses calls that are not in the name of a task's owner.
func (a *App) ownersLocked(ctx context.Context, t *Task) error {
	tokens := metadata.ValueFromIncomingContext(ctx, jwtHeader)
	switch {
	case len(metadata.ValueFromIncomingContext(ctx, apiKeyHeader)) > 0:
		return a.violateLocked("a call about task %s with an API key", t.id)
	case len(tokens) != 1 || tokens[0] != t.jwt:
		return a.violateLocked("a call about task %s that is not in the name of its owner", t.id)
	}
	return nil
}

// findLocked finds a task that exists.
func (a *App) findLocked(id string) (*Task, error) {
	if t := a.tasks[id]; t != nil && !t.gone {
		return t, nil
	}
	return nil, status.Errorf(codes.NotFound, "there is no task %q", id)
}

// receive passes on what is received, until there is an error.
func receive[M any](ctx context.Context, recv func() (M, error)) (messages <-chan M, ended <-chan error) {
	m, e := make(chan M), make(chan error, 1)
	go func() { // ends with the call
		for {
			message, err := recv()
			if err != nil {
				e <- err
				return
			}
			select {
			case m <- message:
			case <-ctx.Done():
				e <- errors.New("the call is over")
				return
			}
		}
	}()
	return m, e
}
