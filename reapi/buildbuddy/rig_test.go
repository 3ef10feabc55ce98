package buildbuddy_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/actioncache"
	"github.com/hearth-build/hearth/cas/memory"
	"github.com/hearth-build/hearth/cas/tree"
	"github.com/hearth-build/hearth/reapi/buildbuddy"
	"github.com/hearth-build/hearth/reapi/buildbuddy/buildbuddytest"
	"github.com/hearth-build/hearth/reapi/cluster"
	"github.com/hearth-build/hearth/reapi/execution"
	"github.com/hearth-build/hearth/runners"
	"github.com/hearth-build/hearth/runners/runnertest"
)

// patience is more than any state takes to come.
const patience = 2 * time.Minute

const apiKey = "the-key-that-nobody-may-see"

// rig is an app and its storage, and what was logged by the workers of the app.
type rig struct {
	t       *testing.T
	app     *buildbuddytest.App
	address string
	store   *memory.Store
	results actioncache.Cache
	keeper  *tree.Keeper
	stager  *tree.Copier
	log     logged
	tokens  []string
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, app: buildbuddytest.NewApp(apiKey), store: memory.New(64 << 20)}
	r.results = actioncache.Complete(actioncache.NewMemory(1<<20), r.store)
	r.stager = tree.NewCopier(r.store, tree.CopierOptions{TrashDir: filepath.Join(t.TempDir(), "trash")})
	r.keeper = tree.NewKeeper(tree.NewLoader(r.store, tree.LoaderOptions{}), r.store, tree.KeeperOptions{})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.address = listener.Addr().String()
	server := grpc.NewServer()
	r.app.Serve(server)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }() // ends with Stop
	t.Cleanup(func() {
		server.Stop()
		if err := errors.Join(<-served, r.stager.Close()); err != nil {
			t.Error(err)
		}
		r.check()
	})
	return r
}

// check says what was done that must not be.
func (r *rig) check() {
	if v := r.app.Violations(); len(v) > 0 {
		r.t.Errorf("the rules were broken: %q", v)
	}
	for _, secret := range append(r.tokens, apiKey) {
		if strings.Contains(r.log.String(), secret) {
			r.t.Errorf("%q was logged:\n%s", secret, r.log.String())
		}
	}
	if r.t.Failed() {
		r.t.Logf("the workers logged:\n%s", r.log.String())
	}
}

// logged is what loggers write to.
type logged struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// machine is a worker on fake runners.
type machine struct {
	fake      *runnertest.Fake
	scheduler *execution.Scheduler
	unready   atomic.Bool
	key       atomic.Value // of string

	tenants sync.Map // whose storage was asked for
	shown   sync.Map // what calls to the storage show of who makes them

	stop     context.CancelCauseFunc
	handBack func()
	left     chan struct{} // closed when the worker has left
}

// setup is what tests choose; zero fields get what most want.
type setup struct {
	name    string
	cpus    int
	program runnertest.Program
	unready bool
	key     string
}

// start lets a worker run until the test ends.
func (r *rig) start(s setup) *machine {
	r.t.Helper()
	if s.name == "" {
		s.name = "one"
	}
	if s.key == "" {
		s.key = apiKey
	}
	if s.program == nil {
		s.program = runnertest.Builtins
	}
	m := &machine{fake: runnertest.NewFake(), left: make(chan struct{})}
	m.unready.Store(s.unready)
	m.key.Store(s.key)
	m.fake.SetProgram(s.program)
	pool, err := runners.NewPool(m.fake, runners.Options{Dir: r.t.TempDir()})
	if err != nil {
		r.t.Fatal(err)
	}
	total := execution.Resources{MilliCPU: int64(max(1, s.cpus)) * 1000, Memory: 8 << 30, Runners: 16, Custom: map[string]int64{"gpu": 1000}}
	m.newScheduler(r.t, pool, s.name, total)
	conn, err := grpc.NewClient(r.address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithPerRPCCredentials(buildbuddy.Credentials{APIKey: func() (string, error) { return m.key.Load().(string), nil }}))
	if err != nil {
		r.t.Fatal(err)
	}
	worker, err := buildbuddy.NewWorker(buildbuddy.Options{
		Conn: conn,
		Actions: cluster.Actions{Scheduler: m.scheduler, Instance: func(tenant, name string) (*execution.Instance, error) {
			m.tenants.Store(tenant, name)
			return &execution.Instance{Name: name, Store: guarded{r.store, &m.shown}, Results: r.results, Inputs: r.keeper, Stager: r.stager}, nil
		}},
		Node: buildbuddy.Node{ID: s.name, HostID: "host-of-" + s.name, Hostname: s.name + ".example", Arch: "amd64", Pool: "pool", Version: "1", Resources: total},
		Ready: func(context.Context) error {
			if m.unready.Load() {
				return errors.New("the test says so")
			}
			return nil
		},
		Logger: slog.New(slog.NewTextHandler(&r.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err != nil {
		r.t.Fatal(err)
	}
	var ctx context.Context
	ctx, m.stop = context.WithCancelCause(context.Background())
	handBack := make(chan struct{})
	m.handBack = sync.OnceFunc(func() { close(handBack) })
	go func() { // ends with stop and handBack
		defer close(m.left)
		worker.Run(ctx, handBack)
	}()
	r.t.Cleanup(func() { m.close(r.t, pool, conn) })
	return m
}

// guarded notes in whose name blobs are put.
type guarded struct {
	cas.Store
	shown *sync.Map
}

func (g guarded) Put(ctx context.Context, c *cas.Content) error {
	headers, err := buildbuddy.Credentials{APIKey: func() (string, error) { return apiKey, nil }}.GetRequestMetadata(ctx)
	g.shown.Store(fmt.Sprint(headers, err), true)
	return g.Store.Put(ctx, c)
}

func (m *machine) newScheduler(t *testing.T, pool *runners.Pool, name string, total execution.Resources) {
	t.Helper()
	slots, err := execution.NewSlots(execution.SlotsOptions{Total: total, MaxQueued: 100})
	if err != nil {
		t.Fatal(err)
	}
	run := execution.NewAction(execution.ActionOptions{
		Pool: pool, DefaultTimeout: time.Hour, MaxTimeout: 2 * time.Hour, SpoolDir: t.TempDir(), MaxPrinted: 1 << 20,
	})
	run = execution.WithMatching(execution.WithAdmission(execution.WithTiming(run, "host-of-"+name), slots))
	if m.scheduler, err = execution.NewScheduler(execution.WithCaching(run), slots, execution.SchedulerOptions{}); err != nil {
		t.Fatal(err)
	}
}

func (m *machine) close(t *testing.T, pool *runners.Pool, conn *grpc.ClientConn) {
	m.stop(errors.New("the test is over"))
	m.handBack()
	<-m.left
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if load := m.scheduler.Load(); load.Busy > 0 || load.Queued > 0 {
		t.Errorf("a worker that left still keeps room: %+v", load)
	}
	if err := errors.Join(m.scheduler.Close(ctx), pool.Close(ctx), conn.Close()); err != nil {
		t.Error(err)
	}
	if v := m.fake.Violations(); len(v) > 0 {
		t.Errorf("the rules of runners were broken: %q", v)
	}
}

// put stores a message.
func (r *rig) put(m proto.Message) *repb.Digest {
	r.t.Helper()
	data, err := proto.Marshal(m)
	if err != nil {
		r.t.Fatal(err)
	}
	d, err := cas.PutBytes(r.t.Context(), r.store, cas.SHA256, data)
	if err != nil {
		r.t.Fatal(err)
	}
	return d.Proto()
}

// spec is a task that runs a command; each is an action of its own.
func (r *rig) spec(args ...string) buildbuddytest.Spec {
	r.t.Helper()
	command := &repb.Command{Arguments: args}
	action := &repb.Action{
		CommandDigest: r.put(command), InputRootDigest: r.put(&repb.Directory{}), Timeout: durationpb.New(time.Hour),
		Platform: &repb.Platform{Properties: []*repb.Platform_Property{{Name: "recycle-runner", Value: "true"}}},
	}
	return buildbuddytest.Spec{
		Request: &repb.ExecuteRequest{InstanceName: "main", ActionDigest: r.put(action), DigestFunction: repb.DigestFunction_SHA256},
		Action:  action, Command: command, Group: "group",
	}
}

func (r *rig) submit(spec buildbuddytest.Spec) *buildbuddytest.Task {
	r.t.Helper()
	task, err := r.app.Submit(spec)
	if err != nil {
		r.t.Fatal(err)
	}
	r.tokens = append(r.tokens, task.Token())
	return task
}

func (r *rig) run(args ...string) *buildbuddytest.Task {
	r.t.Helper()
	return r.submit(r.spec(args...))
}

// wait is Task.Wait with the rig's patience.
func (r *rig) wait(task *buildbuddytest.Task) *repb.ExecuteResponse {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	resp, err := task.Wait(ctx)
	if err != nil {
		r.t.Fatalf("task %s was not finalized (%v): stages %v, taken by %q, given back: %v", task.ID(), err, task.Stages(), task.Takers(), task.GivenBack())
	}
	return resp
}

// await waits for a state of things.
func await(t *testing.T, what string, reached func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for !reached() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s: not after %v", what, patience)
		}
	}
}

// closed waits for a channel to be closed.
func closed(t *testing.T, what string, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(patience):
		t.Fatalf("%s: not after %v", what, patience)
	}
}
