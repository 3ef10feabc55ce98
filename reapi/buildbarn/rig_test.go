package buildbarn_test

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"github.com/buildbarn/bb-remote-execution/pkg/proto/remoteworker"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/actioncache"
	"github.com/hearth-build/hearth/cas/memory"
	"github.com/hearth-build/hearth/cas/tree"
	"github.com/hearth-build/hearth/reapi/buildbarn"
	"github.com/hearth-build/hearth/reapi/buildbarn/buildbarntest"
	"github.com/hearth-build/hearth/reapi/cluster"
	"github.com/hearth-build/hearth/reapi/execution"
	"github.com/hearth-build/hearth/runners"
	"github.com/hearth-build/hearth/runners/runnertest"
)

// patience is more than any state takes to come.
const patience = time.Minute

// rig is a worker on fake runners, and its scheduler, which speak by gRPC.
type rig struct {
	t         *testing.T
	queue     *buildbarntest.Queue
	fake      *runnertest.Fake
	store     *memory.Store
	results   actioncache.Cache
	scheduler *execution.Scheduler
	options   buildbarn.Options
	unready   atomic.Bool

	stop     context.CancelCauseFunc
	handBack func()
	left     chan struct{} // closed when the worker has left
}

// setup is what tests choose; zero fields get what most want.
type setup struct {
	slots, cpus int
	program     runnertest.Program
	unready     bool
}

func newRig(t *testing.T, s setup) *rig {
	t.Helper()
	r := &rig{t: t, queue: buildbarntest.NewQueue(), fake: runnertest.NewFake(), store: memory.New(64 << 20), left: make(chan struct{})}
	r.unready.Store(s.unready)
	r.fake.SetProgram(s.program)
	r.results = actioncache.Complete(actioncache.NewMemory(1<<20), r.store)
	pool, err := runners.NewPool(r.fake, runners.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	r.newScheduler(pool, max(1, s.cpus))
	stager := tree.NewCopier(r.store, tree.CopierOptions{TrashDir: filepath.Join(t.TempDir(), "trash")})
	keeper := tree.NewKeeper(tree.NewLoader(r.store, tree.LoaderOptions{}), r.store, tree.KeeperOptions{})
	actions, err := buildbarn.NewActions(buildbarn.ActionsOptions{
		Prefix: "prefix", Browser: mustURL(t, "https://browser.example/bb"),
		Actions: cluster.Actions{Scheduler: r.scheduler, Instance: func(_, name string) (*execution.Instance, error) {
			return &execution.Instance{Name: name, Store: r.store, Results: r.results, Inputs: keeper, Stager: stager}, nil
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	r.options = buildbarn.Options{
		Queue: remoteworker.NewOperationQueueClient(r.serve()), Actions: actions, Slots: max(1, s.slots),
		ID:       map[string]string{"node": "n1"},
		Platform: []runners.Property{{Name: "b", Value: "2"}, {Name: "a", Value: "1"}},
		Ready: func(context.Context) error {
			if r.unready.Load() {
				return errors.New("the test says so")
			}
			return nil
		},
	}
	t.Cleanup(func() { r.close(pool, stager) })
	r.start()
	return r
}

func (r *rig) newScheduler(pool *runners.Pool, cpus int) {
	slots, err := execution.NewSlots(execution.SlotsOptions{
		Total: execution.Resources{MilliCPU: int64(cpus) * 1000, Memory: 8 << 30, Runners: 16}, MaxQueued: 100,
	})
	if err != nil {
		r.t.Fatal(err)
	}
	run := execution.NewAction(execution.ActionOptions{
		Pool: pool, DefaultTimeout: time.Hour, MaxTimeout: 2 * time.Hour, SpoolDir: r.t.TempDir(), MaxPrinted: 1 << 20,
	})
	run = execution.WithAdmission(execution.WithTiming(run, "here"), slots)
	if r.scheduler, err = execution.NewScheduler(execution.WithCaching(run), slots, execution.SchedulerOptions{}); err != nil {
		r.t.Fatal(err)
	}
}

// serve serves the queue, and returns a connection to it.
func (r *rig) serve() *grpc.ClientConn {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	server := grpc.NewServer()
	remoteworker.RegisterOperationQueueServer(server, r.queue)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }() // ends with Stop
	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		err := conn.Close()
		server.Stop()
		if err := errors.Join(err, <-served); err != nil {
			r.t.Error(err)
		}
	})
	return conn
}

// start lets the worker run until the test ends.
func (r *rig) start() {
	worker, err := buildbarn.NewWorker(r.options)
	if err != nil {
		r.t.Fatal(err)
	}
	var ctx context.Context
	ctx, r.stop = context.WithCancelCause(context.Background())
	handBack := make(chan struct{})
	r.handBack = sync.OnceFunc(func() { close(handBack) })
	go func() { // ends with stop and handBack
		defer close(r.left)
		worker.Run(ctx, handBack)
	}()
}

func (r *rig) close(pool *runners.Pool, stager *tree.Copier) {
	r.stop(errors.New("the test is over"))
	r.handBack()
	<-r.left
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := errors.Join(r.scheduler.Close(ctx), pool.Close(ctx), stager.Close()); err != nil {
		r.t.Error(err)
	}
	if v := append(r.fake.Violations(), r.queue.Violations()...); len(v) > 0 {
		r.t.Errorf("the rules were broken: %q", v)
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

// assignment of a command; each is an action of its own.
func (r *rig) assignment(args ...string) *remoteworker.DesiredState_Executing {
	r.t.Helper()
	action := &repb.Action{
		CommandDigest: r.put(&repb.Command{Arguments: args}), InputRootDigest: r.put(&repb.Directory{}),
		Timeout:  durationpb.New(time.Hour),
		Platform: &repb.Platform{Properties: []*repb.Platform_Property{{Name: "recycle-runner", Value: "true"}}},
	}
	return &remoteworker.DesiredState_Executing{
		ActionDigest: r.put(action), Action: action, DigestFunction: repb.DigestFunction_SHA256, InstanceNameSuffix: "suffix",
	}
}

// wait is Task.Wait with the rig's patience.
func (r *rig) wait(task *buildbarntest.Task) *repb.ExecuteResponse {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	resp, err := task.Wait(ctx)
	if err != nil {
		r.t.Fatalf("the action was not completed (%v); the worker reported %v", err, task.Reported())
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
