package buildbarn_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/buildbarn/bb-remote-execution/pkg/proto/resourceusage"
	"github.com/buildbarn/bb-remote-execution/pkg/proto/runner"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/hearth-build/hearth/reapi/buildbarn"
	"github.com/hearth-build/hearth/runners"
	"github.com/hearth-build/hearth/runners/runnertest"
)

// runnerRig is a Runner on processes of this host, as a bb_worker sees it.
type runnerRig struct {
	client runner.RunnerClient
	pool   *runners.Pool
	dir    string      // the build directory
	broken atomic.Bool // containers cannot be started
}

func newRunnerRig(t *testing.T) *runnerRig {
	t.Helper()
	r := &runnerRig{dir: runnertest.PublicDir(t)}
	server, err := runnertest.BuildExecServer(runnertest.PublicDir(t))
	if err != nil {
		t.Fatal(err)
	}
	dir := runnertest.PublicDir(t)
	backend, err := runnertest.NewHostProcess(dir, server)
	if err != nil {
		t.Fatal(err)
	}
	if r.pool, err = runners.NewPool(backend, runners.Options{Dir: dir}); err != nil {
		t.Fatal(err)
	}
	platform, err := runners.ParsePlatform([]runners.Property{{Name: "recycle-runner", Value: "true"}}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	service, err := buildbarn.NewRunner(buildbarn.RunnerOptions{
		Pool: r.pool, BuildDir: r.dir, ContainerDir: r.dir, Platform: platform,
		Ready: func(context.Context) error {
			if r.broken.Load() {
				return runners.ErrBackend
			}
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	r.serve(t, service)
	return r
}

func (r *runnerRig) serve(t *testing.T, service *buildbarn.Runner) {
	socket := filepath.Join(runnertest.PublicDir(t), "runner.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	runner.RegisterRunnerServer(server, service)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }() // ends with Stop
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	r.client = runner.NewRunnerClient(conn)
	t.Cleanup(func() {
		err := conn.Close()
		server.GracefulStop()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := errors.Join(err, <-served, r.pool.Close(ctx), service.Close()); err != nil {
			t.Error(err)
		}
	})
}

// request makes what bb_worker makes for an action, and asks for a shell script in it.
func (r *runnerRig) request(t *testing.T, name, script string) *runner.RunRequest {
	t.Helper()
	for _, dir := range []string{"root/sub", "tmp", "server_logs"} {
		path := filepath.Join(r.dir, name, dir)
		if err := os.MkdirAll(path, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(r.dir, name, "root"), 0o777); err != nil {
		t.Fatal(err)
	}
	return &runner.RunRequest{
		Arguments: []string{"sh", "-c", script}, EnvironmentVariables: map[string]string{"PATH": "/usr/bin:/bin", "NAME": "value"},
		WorkingDirectory: "sub", InputRootDirectory: name + "/root", TemporaryDirectory: name + "/tmp", ServerLogsDirectory: name + "/server_logs",
		StdoutPath: name + "/stdout", StderrPath: name + "/stderr",
	}
}

// read is a file in the build directory.
func (r *runnerRig) read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(r.dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestRunnerRuns is the conversation of a bb_worker about two actions.
func TestRunnerRuns(t *testing.T) {
	r := newRunnerRig(t)
	req := r.request(t, "1", `pwd; id -u; echo "$NAME $TMPDIR"; echo made > file; echo wrong >&2; exit 3`)
	if _, err := r.client.CheckReadiness(t.Context(), &runner.CheckReadinessRequest{Path: "1/root"}); err != nil {
		t.Fatal(err)
	}
	resp, err := r.client.Run(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	usage := &resourceusage.POSIXResourceUsage{}
	if resp.GetExitCode() != 3 || len(resp.GetResourceUsage()) != 1 || resp.GetResourceUsage()[0].UnmarshalTo(usage) != nil || usage.GetMaximumResidentSetSize() == 0 {
		t.Errorf("the response is %v", resp)
	}
	want := r.dir + "/1/root/sub\n65534\nvalue " + r.dir + "/1/tmp\n"
	if got := r.read(t, "1/stdout"); got != want {
		t.Errorf("it printed %q, want %q", got, want)
	}
	if got := r.read(t, "1/stderr") + r.read(t, "1/root/sub/file"); got != "wrong\nmade\n" {
		t.Errorf("it wrote %q", got)
	}
	if resp, err = r.client.Run(t.Context(), r.request(t, "2", "true")); err != nil || resp.GetExitCode() != 0 {
		t.Errorf("the second action: %v (%v)", resp, err)
	}
	if started := r.pool.Counts().Started; started != 1 {
		t.Errorf("%d runners were started, want one for both", started)
	}
}

// TestRunnerEndsOrphans: nothing of an action goes on when Run has returned.
func TestRunnerEndsOrphans(t *testing.T) {
	r := newRunnerRig(t)
	resp, err := r.client.Run(t.Context(), r.request(t, "1", "setsid sh -c 'while :; do echo more >> ../orphan; done' & until [ -s ../orphan ]; do :; done"))
	if err != nil || resp.GetExitCode() != 0 {
		t.Fatalf("%v (%v)", resp, err)
	}
	before := r.read(t, "1/root/orphan")
	if _, err := r.client.Run(t.Context(), r.request(t, "2", "sleep 0.2")); err != nil {
		t.Fatal(err)
	}
	if after := r.read(t, "1/root/orphan"); after != before {
		t.Errorf("what the action left wrote %d bytes more", len(after)-len(before))
	}
}

// TestRunnerEndsWithTheCall: bb_worker ends actions by giving up the call.
func TestRunnerEndsWithTheCall(t *testing.T) {
	r := newRunnerRig(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		_, err := r.client.Run(ctx, r.request(t, "1", "while :; do echo more >> ../alive; sleep 0.01; done"))
		ended <- err
	}()
	alive := filepath.Join(r.dir, "1/root/alive")
	await(t, "the command runs", func() bool { _, err := os.Stat(alive); return err == nil })
	cancel()
	if err := <-ended; status.Code(err) != codes.Canceled {
		t.Errorf("the call ended with %v", err)
	}
	await(t, "the runner is removed", func() bool { return len(r.pool.Snapshot()) == 0 })
	before := r.read(t, "1/root/alive")
	tick := time.NewTimer(100 * time.Millisecond)
	defer tick.Stop()
	<-tick.C
	if after := r.read(t, "1/root/alive"); after != before {
		t.Errorf("the command goes on")
	}
}

// TestRunnerStaysInside: nothing outside of the build directory is touched.
func TestRunnerStaysInside(t *testing.T) {
	r := newRunnerRig(t)
	outside := runnertest.PublicDir(t)
	for name, to := range map[string]string{"absolute": outside, "relative": "../" + filepath.Base(outside)} {
		if err := os.Symlink(to, filepath.Join(r.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	good := r.request(t, "1", "true")
	for what, change := range map[string]func(*runner.RunRequest){
		"no arguments":                func(q *runner.RunRequest) { q.Arguments = nil },
		"a program that is not there": func(q *runner.RunRequest) { q.Arguments = []string{"hearth-no-such-program"} },
		"a root above":                func(q *runner.RunRequest) { q.InputRootDirectory = ".." },
		"an absolute root":            func(q *runner.RunRequest) { q.InputRootDirectory = outside },
		"a root behind a link":        func(q *runner.RunRequest) { q.InputRootDirectory = "absolute" },
		"a root that is a file":       func(q *runner.RunRequest) { q.InputRootDirectory = "1/root/sub/file" },
		"a working directory above":   func(q *runner.RunRequest) { q.WorkingDirectory = "sub/../../.." },
		"a temporary directory above": func(q *runner.RunRequest) { q.TemporaryDirectory = "1/../../" },
		"stdout above":                func(q *runner.RunRequest) { q.StdoutPath = "../stdout" },
		"stdout behind a link":        func(q *runner.RunRequest) { q.StdoutPath = "relative/stdout" },
		"stderr where there is one":   func(q *runner.RunRequest) { q.StderrPath = "1/root/sub/file" },
		"a variable without a name":   func(q *runner.RunRequest) { q.EnvironmentVariables = map[string]string{"": "x"} },
	} {
		t.Run(what, func(t *testing.T) {
			if err := os.WriteFile(filepath.Join(r.dir, "1/root/sub/file"), nil, 0o666); err != nil {
				t.Fatal(err)
			}
			for _, f := range []string{"1/stdout", "1/stderr"} {
				if err := os.RemoveAll(filepath.Join(r.dir, f)); err != nil {
					t.Fatal(err)
				}
			}
			bad := proto.CloneOf(good)
			change(bad)
			if resp, err := r.client.Run(t.Context(), bad); status.Code(err) != codes.InvalidArgument {
				t.Errorf("%v (%v), want INVALID_ARGUMENT", resp, err)
			}
		})
	}
	if entries, err := os.ReadDir(outside); err != nil || len(entries) > 0 {
		t.Errorf("outside there is %v (%v)", entries, err)
	}
}

// TestRunnerReadiness: bb_worker takes no action while something is amiss.
func TestRunnerReadiness(t *testing.T) {
	r := newRunnerRig(t)
	if _, err := r.client.CheckReadiness(t.Context(), &runner.CheckReadinessRequest{}); err != nil {
		t.Errorf("the build directory itself: %v", err)
	}
	for _, path := range []string{"missing", "../" + filepath.Base(r.dir)} {
		if _, err := r.client.CheckReadiness(t.Context(), &runner.CheckReadinessRequest{Path: path}); err == nil || !strings.Contains(err.Error(), r.dir) {
			t.Errorf("%s: %v, want an error that names the build directory", path, err)
		}
	}
	r.broken.Store(true)
	if _, err := r.client.CheckReadiness(t.Context(), &runner.CheckReadinessRequest{}); status.Code(err) != codes.Unavailable {
		t.Errorf("podman is broken: %v", err)
	}
}
