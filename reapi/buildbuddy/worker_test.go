package buildbuddy_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/reapi/buildbuddy"
	"github.com/hearth-build/hearth/reapi/buildbuddy/buildbuddypb"
	"github.com/hearth-build/hearth/reapi/buildbuddy/buildbuddytest"
	"github.com/hearth-build/hearth/runners"
	"github.com/hearth-build/hearth/runners/runnertest"
)

// TestRunsTasks: what was offered is run, its stages and its outcome are published, and
// what the task says beside the action counts.
func TestRunsTasks(t *testing.T) {
	r := newRig(t)
	m := r.start(setup{cpus: 2})
	var tasks []*buildbuddytest.Task
	for i := range 6 {
		spec := r.spec("echo", fmt.Sprint(i))
		spec.Request.InlineStdout = true
		tasks = append(tasks, r.submit(spec))
	}
	for i, task := range tasks {
		resp := r.wait(task)
		if resp.GetStatus().GetCode() != 0 || string(resp.GetResult().GetStdoutRaw()) != fmt.Sprintf("%d\n", i) {
			t.Fatalf("task %d: %v", i, resp)
		}
		if got := task.Takers(); len(got) != 1 || got[0] != "one" || task.Offers() != 1 {
			t.Errorf("task %d was taken by %q and heard of %d times", i, got, task.Offers())
		}
	}
	if name, ok := m.tenants.Load("group"); !ok || name != "main" {
		t.Errorf("the storage of %q was used, want that of the group's instance name", name)
	}
	// The same again is in the action cache, where the worker looks.
	spec := r.spec("echo", "0")
	if resp := r.wait(r.submit(spec)); !resp.GetCachedResult() {
		t.Errorf("the second time: %v, want a cached result", resp)
	}
	spec.Request = proto.CloneOf(spec.Request)
	spec.Request.SkipCacheLookup = true
	if resp := r.wait(r.submit(spec)); resp.GetCachedResult() {
		t.Errorf("the client wants no cached result: %v", resp)
	}
}

// TestStoresInTheOwnersName: what a task makes is its owner's, and stored as that.
func TestStoresInTheOwnersName(t *testing.T) {
	r := newRig(t)
	m := r.start(setup{})
	task := r.run("echo", "something that was not there")
	r.wait(task)
	want := fmt.Sprint(map[string]string{"x-buildbuddy-jwt": task.Token()}, error(nil))
	stores := 0
	m.shown.Range(func(who, _ any) bool {
		stores++
		if who != want {
			t.Errorf("something was stored by %v, want %v", who, want)
		}
		return true
	})
	if stores == 0 {
		t.Error("nothing was stored")
	}
}

// TestPublishesStages: a long action is published as it goes on.
func TestPublishesStages(t *testing.T) {
	r := newRig(t)
	proceed := make(chan struct{})
	m := r.start(setup{program: func(context.Context, runnertest.Process) (runners.Result, error) {
		<-proceed
		return runners.Result{ExitCode: 3}, nil
	}})
	task := r.run("long")
	await(t, "published as executing", func() bool { return slices.Contains(task.Stages(), repb.ExecutionStage_EXECUTING) })
	await(t, "told as active", func() bool { e := r.app.Executors(); return len(e) == 1 && e[0].GetActiveActionCount() == 1 })
	close(proceed)
	if resp := r.wait(task); resp.GetResult().GetExitCode() != 3 || m.fake.Count(runnertest.OpRun) != 1 {
		t.Errorf("%v after %d runs", resp, m.fake.Count(runnertest.OpRun))
	}
}

// TestRegisters: the app is told what the machine has.
func TestRegisters(t *testing.T) {
	r := newRig(t)
	r.start(setup{cpus: 3})
	await(t, "registered", func() bool { return len(r.app.Executors()) == 1 })
	want := &buildbuddypb.ExecutionNode{
		Host: "one.example", Port: 1, AssignableMemoryBytes: 8 << 30, AssignableMilliCpu: 3000, OsFamily: "linux", Arch: "amd64", Pool: "pool", Version: "1",
		ExecutorId: "one", ExecutorHostId: "host-of-one", AssignableCustomResources: []*buildbuddypb.CustomResource{{Name: "gpu", Value: 1}},
		SupportedIsolationTypes: []string{"podman"}, SupportsProactiveCancellation: true,
	}
	if got := r.app.Executors()[0]; !proto.Equal(got, want) {
		t.Errorf("registered as %v\nwant %v", got, want)
	}
}

// TestOverrides: properties that came as headers count.
func TestOverrides(t *testing.T) {
	r := newRig(t)
	r.start(setup{})
	spec := r.spec("true")
	spec.Overrides = &repb.Platform{Properties: []*repb.Platform_Property{{Name: "network", Value: "host"}}}
	if resp := r.wait(r.submit(spec)); codes.Code(resp.GetStatus().GetCode()) != codes.FailedPrecondition || !strings.Contains(resp.GetStatus().GetMessage(), "network") {
		t.Errorf("a network that is not given to actions: %v", resp)
	}
}

// TestShowsTheKey: a wrong API key is refused; the file with it is read again.
func TestShowsTheKey(t *testing.T) {
	r := newRig(t)
	const wrong = "the-wrong-key-that-nobody-may-see-either"
	m := r.start(setup{key: wrong})
	task := r.run("true")
	await(t, "the refusal is logged", func() bool { return strings.Contains(r.log.String(), "that is not the API key") })
	if len(r.app.Executors()) > 0 || task.Offers() > 0 {
		t.Errorf("registered with a wrong key: %v", r.app.Executors())
	}
	m.key.Store(apiKey)
	r.wait(task)
	if strings.Contains(r.log.String(), wrong) {
		t.Errorf("the key was logged:\n%s", r.log.String())
	}
}

// TestLeasesWhatFits: a task that is larger than what is free, by the app's measure,
// waits to be leased: another machine may have room for it.
func TestLeasesWhatFits(t *testing.T) {
	r := newRig(t)
	proceed, begun := make(chan struct{}), make(chan struct{})
	r.start(setup{cpus: 4, program: func(_ context.Context, p runnertest.Process) (runners.Result, error) {
		if p.Args[0] == "first" {
			close(begun)
			<-proceed
		}
		return runners.Result{}, nil
	}})
	sized := func(milliCPU int64, gpu float32, args ...string) *buildbuddytest.Task {
		spec := r.spec(args...)
		spec.Size = &buildbuddypb.TaskSize{EstimatedMilliCpu: milliCPU, EstimatedMemoryBytes: 1 << 20}
		if gpu > 0 {
			spec.Size.CustomResources = []*buildbuddypb.CustomResource{{Name: "gpu", Value: gpu}}
		}
		return r.submit(spec)
	}
	first := sized(2000, 0.75, "first")
	closed(t, "the first command runs", begun)
	large, gpu := sized(3000, 0, "large"), sized(500, 0.5, "gpu")
	await(t, "offered", func() bool { return large.Offers() == 1 && gpu.Offers() == 1 })
	await(t, "told as queued", func() bool { return r.app.Executors()[0].GetCurrentQueueLength() == 2 })
	if len(large.Takers())+len(gpu.Takers()) > 0 {
		t.Errorf("leased although there is no room: %q and %q", large.Takers(), gpu.Takers())
	}
	// An offer that is taken back, and one that never fits, are in nobody's way.
	withdrawn, huge := sized(3000, 0, "withdrawn"), sized(5000, 0, "huge")
	await(t, "offered, too", func() bool { return withdrawn.Offers() == 1 && huge.Offers() == 1 })
	if err := withdrawn.Cancel(); err != nil {
		t.Fatal(err)
	}
	await(t, "told as queued no more", func() bool { return r.app.Executors()[0].GetCurrentQueueLength() == 2 })
	close(proceed)
	for _, task := range []*buildbuddytest.Task{first, large, gpu} {
		r.wait(task)
	}
	if len(huge.Takers())+len(withdrawn.Takers()) > 0 {
		t.Error("a task was leased that nobody can run here, or wants")
	}
}

// TestNamesMissingBlobs: the client can upload them and try again.
func TestNamesMissingBlobs(t *testing.T) {
	r := newRig(t)
	r.start(setup{})
	spec := r.spec("true")
	spec.Action = proto.CloneOf(spec.Action)
	spec.Action.InputRootDigest = cas.SHA256.Sum([]byte("nobody has this")).Proto()
	resp := r.wait(r.submit(spec))
	if s := status.FromProto(resp.GetStatus()); s.Code() != codes.FailedPrecondition || len(s.Details()) != 1 {
		t.Errorf("the response is %v", resp)
	}
}

// TestRefusesNonsense: a task that makes no sense is given back, or its client told.
func TestRefusesNonsense(t *testing.T) {
	r := newRig(t)
	r.start(setup{})
	bad := r.spec("true")
	bad.Request = proto.CloneOf(bad.Request)
	bad.Request.InstanceName = "blobs/x"
	if resp := r.wait(r.submit(bad)); codes.Code(resp.GetStatus().GetCode()) != codes.InvalidArgument {
		t.Errorf("an instance name that is none: %v", resp)
	}
	worse := r.spec("true")
	worse.Request = proto.CloneOf(worse.Request)
	worse.Request.ActionDigest = &repb.Digest{Hash: "zz"}
	task := r.submit(worse)
	await(t, "given back", func() bool { return len(task.GivenBack()) > 0 })
	if why := task.GivenBack()[0]; !strings.Contains(why.GetMessage(), "action_digest") {
		t.Errorf("it was given back since %v", why)
	}
	if err := task.Cancel(); err != nil {
		t.Error(err)
	}
}

// TestTakesNothingUnready: a machine that cannot run actions is not offered any, and
// one that cannot any more gives back what it was offered.
func TestTakesNothingUnready(t *testing.T) {
	r := newRig(t)
	proceed, begun := make(chan struct{}), make(chan struct{})
	m := r.start(setup{unready: true, program: func(_ context.Context, p runnertest.Process) (runners.Result, error) {
		if p.Args[0] == "first" {
			close(begun)
			<-proceed
		}
		return runners.Result{}, nil
	}})
	await(t, "the reason is logged", func() bool { return strings.Contains(r.log.String(), "the test says so") })
	first := r.run("first")
	m.unready.Store(false)
	closed(t, "the first command runs", begun)
	second := r.run("second")
	await(t, "offered", func() bool { return second.Offers() == 1 })
	m.unready.Store(true)
	await(t, "not registered any more", func() bool { return len(r.app.Executors()) == 0 })
	close(proceed)
	r.wait(first)
	if len(second.Takers()) > 0 {
		t.Errorf("a worker that is not ready took a task: %q", second.Takers())
	}
	m.unready.Store(false)
	r.wait(second)
}

func TestValidateNamesEveryBadOption(t *testing.T) {
	_, err := buildbuddy.NewWorker(buildbuddy.Options{})
	for _, text := range []string{"storage is missing", "connection to the app", "worker's ID", "host ID", "hostname", "architecture", "CPU is 0"} {
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%q is not in: %v", text, err)
		}
	}
}

var errTest = errors.New("the test says so")
