package console_test

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/protobuf/proto"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/actioncache"
	"github.com/hearth-build/hearth/cas/memory"
	"github.com/hearth-build/hearth/cas/tree"
	"github.com/hearth-build/hearth/reapi/access"
	"github.com/hearth-build/hearth/reapi/console"
	"github.com/hearth-build/hearth/reapi/execution"
	"github.com/hearth-build/hearth/runners"
	"github.com/hearth-build/hearth/runners/runnertest"
)

// hostile is what a client could send in the hope that a browser runs it.
const hostile = `"><script>alert('x')</script><img src=x onerror=alert(1)>`

// opened are instances by tenant and name.
type opened map[[2]string]*execution.Instance

func (o opened) Instance(tenant, name string) (*execution.Instance, bool) {
	i, ok := o[[2]string{tenant, name}]
	return i, ok
}

// reported is a status that a test can change before it looks.
type reported struct{ is *console.Status }

func (s reported) Status() console.Status { return *s.is }

// rig is a console of a server that runs actions on fake runners, in the instance name
// "team" of two tenants: "" and "b".
type rig struct {
	testing.TB

	url       string
	status    *console.Status
	instances opened
	history   *execution.History
	scheduler *execution.Scheduler
	pool      *runners.Pool
	fake      *runnertest.Fake
	stops     chan struct{} // closed when what runs may end
}

func newRig(t testing.TB) *rig {
	t.Helper()
	r := &rig{TB: t, instances: opened{}, fake: runnertest.NewFake(), stops: make(chan struct{})}
	r.status = &console.Status{Version: "1", Endpoint: "grpc://here"}
	var stagers []*tree.Copier
	for _, tenant := range []string{"", "b"} {
		store := memory.New(64 << 20)
		stager := tree.NewCopier(store, tree.CopierOptions{TrashDir: filepath.Join(t.TempDir(), "trash")})
		stagers = append(stagers, stager)
		r.instances[[2]string{tenant, "team"}] = &execution.Instance{
			Name: "team", Store: store, Results: actioncache.Complete(actioncache.NewMemory(1<<20), store), Stager: stager,
			Inputs:            tree.NewKeeper(tree.NewLoader(store, tree.LoaderOptions{}), store, tree.KeeperOptions{}),
			DefaultProperties: []runners.Property{{Name: "recycle-runner", Value: "true"}},
		}
	}
	r.fake.SetProgram(func(ctx context.Context, p runnertest.Process) (runners.Result, error) {
		fmt.Fprintf(p.Stdout, "begun %s\n", hostile)
		fmt.Fprint(p.Stderr, "moaned\n")
		select {
		case <-r.stops:
			fmt.Fprint(p.Stdout, "ended\n")
			return runners.Result{}, nil
		case <-ctx.Done():
			return runners.Result{}, context.Cause(ctx)
		}
	})
	r.schedule(stagers)
	handler, err := console.Handler(console.Options{
		Source: reported{r.status}, Actions: r.history, Runners: r.pool, InFlight: r.scheduler, Instances: r.instances,
		Store: stored{Blobs: 3, Bytes: 10, MaxBytes: 40, Evicted: 7, EvictedBytes: 70}, Engine: engine{},
		Access: byToken{
			"operator": access.Everybody(),
			"reader":   {Grants: map[string]access.Roles{"team": access.Read}},
			"stranger": {Grants: map[string]access.Roles{"elsewhere": access.All}},
			"tenant":   {Tenant: "b", Grants: map[string]access.Roles{access.AnyInstance: access.All}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	r.url = server.URL
	return r
}

// schedule makes what runs actions, two at a time.
func (r *rig) schedule(stagers []*tree.Copier) {
	r.Helper()
	var err error
	if r.history, err = execution.NewHistory(20_000); err != nil {
		r.Fatal(err)
	}
	if r.pool, err = runners.NewPool(r.fake, runners.Options{Dir: r.TempDir()}); err != nil {
		r.Fatal(err)
	}
	slots, err := execution.NewSlots(execution.SlotsOptions{
		Total: execution.Resources{MilliCPU: 2000, Memory: 1 << 30, Runners: 10}, MaxQueued: 10,
	})
	if err != nil {
		r.Fatal(err)
	}
	run := execution.NewAction(execution.ActionOptions{Pool: r.pool, DefaultTimeout: time.Hour, MaxTimeout: time.Hour, SpoolDir: r.TempDir(), MaxPrinted: 1 << 20})
	run = execution.WithMatching(execution.WithAdmission(execution.WithTiming(run, "here"), slots))
	run = execution.WithObservers(execution.WithCaching(run), execution.Observation{
		StatusOf: func(err error) string {
			if err != nil {
				return "UNKNOWN"
			}
			return "OK"
		},
		Observers: []execution.Observer{r.history.Observe},
	})
	if r.scheduler, err = execution.NewScheduler(run, slots, execution.SchedulerOptions{}); err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		r.stop()
		err := errors.Join(r.scheduler.Close(ctx), r.pool.Close(ctx))
		for _, s := range stagers {
			err = errors.Join(err, s.Close())
		}
		if err != nil {
			r.Error(err)
		}
	})
}

// stop lets what runs end.
func (r *rig) stop() {
	select {
	case <-r.stops:
	default:
		close(r.stops)
	}
}

func (r *rig) blob(tenant, text string) cas.Digest {
	r.Helper()
	d, err := cas.PutBytes(context.Background(), r.instances[[2]string{tenant, "team"}].Store, cas.SHA256, []byte(text))
	if err != nil {
		r.Fatal(err)
	}
	return d
}

func (r *rig) message(tenant string, m proto.Message) cas.Digest {
	r.Helper()
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		r.Fatal(err)
	}
	return r.blob(tenant, string(data))
}

// inputs are a directory with another one in it, and a link.
func (r *rig) inputs(tenant string) cas.Digest {
	sub := &repb.Directory{Files: []*repb.FileNode{{Name: "deep", Digest: r.blob(tenant, "deep inside").Proto(), IsExecutable: true}}}
	return r.message(tenant, &repb.Directory{
		Files:       []*repb.FileNode{{Name: "a<b>", Digest: r.blob(tenant, "in a").Proto()}},
		Directories: []*repb.DirectoryNode{{Name: "sub", Digest: r.message(tenant, sub).Proto()}},
		Symlinks:    []*repb.SymlinkNode{{Name: "link", Target: hostile}},
	})
}

// action stores one that prints name in its command.
func (r *rig) action(tenant, name string) cas.Digest {
	return r.message(tenant, &repb.Action{
		CommandDigest: r.message(tenant, &repb.Command{
			Arguments: []string{"do", name, hostile}, OutputPaths: []string{"out/made"},
			EnvironmentVariables: []*repb.Command_EnvironmentVariable{{Name: "A", Value: hostile}},
			Platform:             nil,
		}).Proto(),
		InputRootDigest: r.inputs(tenant).Proto(),
		Platform: &repb.Platform{Properties: []*repb.Platform_Property{
			{Name: "container-registry-password", Value: "hush"}, {Name: "container-registry-username", Value: "me"}, {Name: "secret-env-overrides", Value: "TOKEN=hush"}, {Name: "x-odd", Value: hostile},
		}},
	})
}

// result of an action that made a file, a directory and a link, and printed something.
func (r *rig) result(tenant string) *repb.ActionResult {
	made := &repb.Tree{
		Root:     &repb.Directory{Directories: []*repb.DirectoryNode{{Name: "below"}}},
		Children: []*repb.Directory{{Files: []*repb.FileNode{{Name: "leaf", Digest: r.blob(tenant, "a leaf").Proto()}}}},
	}
	made.Root.Directories[0].Digest = r.message(tenant, made.Children[0]).Proto()
	return &repb.ActionResult{
		ExitCode:          3,
		OutputFiles:       []*repb.OutputFile{{Path: "out/made" + hostile, Digest: r.blob(tenant, "made").Proto(), IsExecutable: true}},
		OutputDirectories: []*repb.OutputDirectory{{Path: "out/dir", TreeDigest: r.message(tenant, made).Proto()}},
		OutputSymlinks:    []*repb.OutputSymlink{{Path: "out/link", Target: hostile}},
		StdoutDigest:      r.blob(tenant, "\x1b[1mprinted\x1b[0m "+hostile).Proto(),
		StderrDigest:      r.blob(tenant, strings.Repeat("x", 40_000)+" the end").Proto(),
	}
}

// observe remembers that an action failed as its result says.
func (r *rig) observe(tenant, name string, edit func(*execution.Finished)) cas.Digest {
	r.Helper()
	data, err := proto.Marshal(r.result(tenant))
	if err != nil {
		r.Fatal(err)
	}
	ended := time.Now()
	f := &execution.Finished{
		Action: r.action(tenant, name), Instance: "team", Tenant: tenant, Invocation: "build of " + tenant, Mnemonic: "Genrule", Target: "//:" + name + hostile,
		Args: []string{"do", name}, Queued: ended.Add(-time.Second), Ended: ended, Status: "OK", ExitCode: 3, Result: data, Message: hostile, Outputs: "1", Printed: "1",
		Phases: []execution.Phase{
			{Name: "cache_lookup", Start: ended.Add(-time.Second), Duration: time.Millisecond},
			{Name: "execution", Start: ended.Add(-900 * time.Millisecond), Duration: 800 * time.Millisecond},
		},
		Runner: runners.LeaseInfo{RunnerID: "r-1", Runs: 1, ColdReason: "first action of this key " + hostile},
	}
	if edit != nil {
		edit(f)
	}
	r.history.Observe(r.Context(), f)
	return f.Action
}

// start runs an action of a tenant, and waits until it prints or waits.
func (r *rig) start(tenant, name string) *execution.Operation {
	r.Helper()
	op, err := r.scheduler.Submit(r.Context(), &execution.Request{
		Instance: r.instances[[2]string{tenant, "team"}], Tenant: tenant, Action: r.action(tenant, name), Invocation: "build of " + tenant, Mnemonic: "Test", Target: "//:" + name,
	})
	if err != nil {
		r.Fatal(err)
	}
	r.until("it prints, or waits", func() bool {
		state := op.State()
		return state.Step == execution.StepExecution && op.LogIDs().Stdout != "" || state.Step == execution.StepQueued || state.Done()
	})
	return op
}

// until waits for something that happens by itself.
func (r *rig) until(what string, holds func() bool) {
	r.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); !holds(); <-tick.C {
		if time.Now().After(deadline) {
			r.Fatalf("waited a minute: %s", what)
		}
	}
}

// stored is a store as full as it says.
type stored console.Store

func (s stored) StoreStatus() console.Store { return console.Store(s) }

// engine writes what it is told.
type engine struct{}

func (engine) RunLine(p runners.Platform, command runners.Command, from, to string) ([]string, error) {
	return append([]string{"podman", "run", "--env=" + strings.Join(command.Env, ","), from + ":" + to, p.Image.Name}, command.Args...), nil
}
