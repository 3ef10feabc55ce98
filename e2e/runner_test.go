package e2e_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/buildbarn/bb-remote-execution/pkg/proto/resourceusage"
	"github.com/buildbarn/bb-remote-execution/pkg/proto/runner"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// TestRunner is what a stock bb_worker says to `hearth runner` about some actions.
func TestRunner(t *testing.T) {
	scratch := shortTempDir(t)
	build, data, socket := filepath.Join(scratch, "build"), filepath.Join(scratch, "data"), filepath.Join(scratch, "runner.sock")
	for _, dir := range []string{"root", "tmp", "server_logs"} {
		path := filepath.Join(build, "1", dir)
		if err := os.MkdirAll(path, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(program(t), "runner", "--listen=unix:"+socket, "--build-dir="+build, "--data-dir="+data)
	startAnnounced(t, data, cmd, func() {}, func(_ *hearth, line string) bool { return strings.HasPrefix(line, "builds in ") })
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	b := &bbWorker{client: runner.NewRunnerClient(conn), build: build}

	if _, err := b.client.CheckReadiness(t.Context(), &runner.CheckReadinessRequest{Path: "1/root"}); err != nil {
		t.Fatal(err)
	}
	// The container keeps a process and a file of the first action from the second.
	resp, printed := b.run(t, `pwd; echo "$TMPDIR"; id -u; echo made > output; echo > /tmp/left; setsid sleep 600.5 & exit 7`)
	if want := "/hearth/build/1/root\n/hearth/build/1/tmp\n65534\n"; resp.GetExitCode() != 7 || printed != want {
		t.Errorf("the first action: %v, it printed %q, want %q", resp, printed, want)
	}
	usage := &resourceusage.POSIXResourceUsage{}
	if len(resp.GetResourceUsage()) != 1 || resp.GetResourceUsage()[0].UnmarshalTo(usage) != nil || usage.GetMaximumResidentSetSize() == 0 {
		t.Errorf("what it used: %v", resp.GetResourceUsage())
	}
	if output, err := os.ReadFile(filepath.Join(build, "1/root/output")); err != nil || string(output) != "made\n" {
		t.Errorf("its output is %q (%v)", output, err)
	}
	if left := processesWith(t, "600.5"); len(left) > 0 {
		t.Errorf("it left %q", left)
	}
	if resp, printed := b.run(t, "ls /tmp; cat /proc/1/comm"); resp.GetExitCode() != 0 || printed != "execserver\n" {
		t.Errorf("the second action: %v, it printed %q", resp, printed)
	}
	b.giveUp(t)
}

// bbWorker is a bb_worker with one build directory.
type bbWorker struct {
	client runner.RunnerClient
	build  string
}

func (b *bbWorker) request(script string) *runner.RunRequest {
	return &runner.RunRequest{
		Arguments: []string{"sh", "-c", script}, EnvironmentVariables: map[string]string{"PATH": "/usr/bin:/bin"},
		InputRootDirectory: "1/root", TemporaryDirectory: "1/tmp", ServerLogsDirectory: "1/server_logs",
		StdoutPath: "1/stdout", StderrPath: "1/stderr",
	}
}

// run runs a script, and returns what it printed to stdout.
func (b *bbWorker) run(t *testing.T, script string) (*runner.RunResponse, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	resp, err := b.client.Run(ctx, b.request(script))
	if err != nil {
		t.Fatal(err)
	}
	printed, err := os.ReadFile(filepath.Join(b.build, "1/stdout"))
	if err != nil {
		t.Fatal(err)
	}
	b.clear(t)
	return resp, string(printed)
}

// clear makes the build directory one for the next action.
func (b *bbWorker) clear(t *testing.T) {
	t.Helper()
	for _, name := range []string{"1/stdout", "1/stderr"} {
		if err := os.Remove(filepath.Join(b.build, name)); err != nil {
			t.Fatal(err)
		}
	}
}

// giveUp gives a call up, as bb_worker does at an action's timeout.
func (b *bbWorker) giveUp(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		_, err := b.client.Run(ctx, b.request("sleep 601.5"))
		ended <- err
	}()
	waitFor(t, "the command to run", func() bool { return len(processesWith(t, "601.5")) > 0 })
	cancel()
	if err := <-ended; err == nil {
		t.Error("a call that was given up succeeded")
	}
	waitFor(t, "the command to be gone", func() bool { return len(processesWith(t, "601.5")) == 0 })
	b.clear(t)
}
