package execution_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"golang.org/x/sys/unix"

	"github.com/hearth-build/hearth/reapi/execution"
	"github.com/hearth-build/hearth/runners"
	"github.com/hearth-build/hearth/runners/runnertest"
)

// Variables and arguments of properties, those of headers too, are added to what the
// Command has. A variable of the Command gives way.
func TestCommandProperties(t *testing.T) {
	r := newRig(t)
	r.command.Arguments = []string{"do", "it"}
	r.command.EnvironmentVariables = []*repb.Command_EnvironmentVariable{{Name: "A", Value: "1"}, {Name: "AB", Value: "2"}, {Name: "PATH", Value: "/x"}}
	r.action.Platform = platformOf("extra-args=--more,two", "env-overrides=A=3,C=4")
	r.overrides = []runners.Property{{Name: "secret-env-overrides", Value: "C=5,PATH=/y"}}
	r.program(func(_ string, p runnertest.Process) (runners.Result, error) {
		if !slices.Equal(p.Args, []string{"do", "it", "--more", "two"}) || !slices.Equal(p.Env, []string{"AB=2", "A=3", "C=5", "PATH=/y"}) {
			t.Errorf("arguments %q, environment %q", p.Args, p.Env)
		}
		return runners.Result{}, nil
	})
	if out := r.run(t.Context()); out.Err != nil {
		t.Fatal(out.Err)
	}
}

// The host's network is for actions of servers that give it.
func TestHostNetworkIsAllowed(t *testing.T) {
	r := newRig(t)
	r.executor = execution.WithMatching(r.executor)
	r.action.Platform = platformOf("dockerNetwork=host")
	r.program(func(string, runnertest.Process) (runners.Result, error) { return runners.Result{}, nil })
	if out := r.run(t.Context()); !errors.Is(out.Err, runners.ErrPlatform) || !contains(out.Err.Error(), "--allow-host-network") {
		t.Errorf("%+v", out)
	}
	if n := r.fake.Count(runnertest.OpStart); n != 0 {
		t.Errorf("%d runners", n)
	}
	r.instance.HostNetwork = true
	if out := r.run(t.Context()); out.Err != nil {
		t.Error(out.Err)
	}
}

// An action that says that it needs more room than there is fails at once: for good
// if there never will be so much.
func TestFreeDisk(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "something"), make([]byte, 1<<16), 0o644); err != nil {
		t.Fatal(err)
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		t.Fatal(err)
	}
	total := int64(fs.Blocks) * fs.Bsize
	for name, tc := range map[string]struct {
		need int64
		kind error
		told string
	}{
		"none":      {0, nil, ""},
		"some":      {1, nil, ""},
		"all":       {total, syscall.ENOSPC, "--max-bytes"},
		"more":      {total + 1, runners.ErrPlatform, "no runner can take this action"},
		"very much": {1 << 62, runners.ErrPlatform, "no runner can take this action"},
	} {
		r := newRig(t)
		r.executor = execution.WithMatching(execution.WithFreeDisk(r.executor, dir))
		r.action.Platform = platformOf(fmt.Sprintf("EstimatedFreeDiskBytes=%d", tc.need))
		r.program(func(string, runnertest.Process) (runners.Result, error) { return runners.Result{}, nil })
		out := r.run(t.Context())
		if !errors.Is(out.Err, tc.kind) || !contains(errText(out.Err), tc.told) {
			t.Errorf("%s: %v", name, out.Err)
		}
		if tc.kind != nil && (!contains(out.Err.Error(), "EstimatedFreeDiskBytes is ") || !contains(out.Err.Error(), dir) || r.fake.Count(runnertest.OpStart) != 0) {
			t.Errorf("%s: %v", name, out.Err)
		}
	}
	r := newRig(t)
	r.executor = execution.WithMatching(execution.WithFreeDisk(r.executor, filepath.Join(dir, "gone")))
	r.action.Platform = platformOf("EstimatedFreeDiskBytes=1")
	if out := r.run(t.Context()); !errors.Is(out.Err, os.ErrNotExist) {
		t.Errorf("of a directory that is gone: %v", out.Err)
	}
}

// REAPI I5: what may be a secret is in no log, result, message or status, also where
// runners differ in nothing else and where the property is refused.
func TestSecretsAreNotTold(t *testing.T) {
	const secret = "hunter2"
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	r := newRig(t)
	pool, err := runners.NewPool(r.fake, runners.Options{Dir: t.TempDir(), Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := pool.Close(ctx); err != nil {
			t.Error(err)
		}
		if contains(log.String(), secret) || !contains(log.String(), "action finished") {
			t.Errorf("the log: %s", &log)
		}
	})
	var finished []*execution.Finished
	note := func(_ context.Context, f *execution.Finished) { finished = append(finished, f) }
	r.executor = execution.WithObservers(execution.WithServerLogs(execution.WithMatching(execution.WithRetries(execution.NewAction(execution.ActionOptions{
		Pool: pool, DefaultTimeout: time.Hour, MaxTimeout: time.Hour, SpoolDir: t.TempDir(), MaxPrinted: 1 << 20,
	}), 3))), execution.Observation{StatusOf: statusOf, Observers: []execution.Observer{execution.LogTo(logger), note}})
	r.exits(3)
	for _, words := range [][]string{
		{"container-registry-password=" + secret},
		{"env-overrides=A=" + secret},
		{"secret-env-overrides=A=" + secret, "runner-crashed-exit-codes=3"},
		{"env-overrides-base64=QT1odW50ZXIy"},
		{"secret-env-overrides-base64=" + secret},
		{"env-overrides=" + secret},
		{"my-token=" + secret},
	} {
		r.overrides = nil
		for _, p := range platformOf(words...).GetProperties() {
			r.overrides = append(r.overrides, runners.Property{Name: p.GetName(), Value: p.GetValue()})
		}
		out := r.run(t.Context())
		text := fmt.Sprintf("%+v %v %+v", *out, pool.Snapshot(), *finished[len(finished)-1])
		if len(out.ServerLogs) > 0 {
			text += r.wantServerLog(out)
		}
		for _, any := range out.Result.GetExecutionMetadata().GetAuxiliaryMetadata() {
			text += string(any.GetValue())
		}
		if strings.Contains(text, secret) {
			t.Errorf("%s: %s", words, text)
		}
	}
}
