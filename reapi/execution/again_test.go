package execution_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hearth-build/hearth/cas/tree"
	"github.com/hearth-build/hearth/reapi/execution"
	"github.com/hearth-build/hearth/runners"
	"github.com/hearth-build/hearth/runners/runnertest"
)

// exits makes the command end with these exit codes, one after another, and then
// with the last of them for ever.
func (r *rig) exits(codes ...int) {
	r.program(func(string, runnertest.Process) (runners.Result, error) {
		code := codes[0]
		if len(codes) > 1 {
			codes = codes[1:]
		}
		return runners.Result{ExitCode: code}, nil
	})
}

// An exit code can say that the runner is broken, or that the command may well
// succeed the next time. Either is tried again, a bounded number of times.
func TestExitCodesThatAreTriedAgain(t *testing.T) {
	for name, tc := range map[string]struct {
		props        []string
		codes        []int
		code         int32
		err          error
		told         string
		runs, starts int
	}{
		"broken once":       {[]string{"runner-crashed-exit-codes=3"}, []int{3, 0}, 0, nil, "", 2, 2},
		"broken for ever":   {[]string{"runner-crashed-exit-codes=7,3"}, []int{3}, 3, nil, "tried 3 times: exit code 3 is one of runner-crashed-exit-codes", 3, 3},
		"broken, then fine": {[]string{"runner-crashed-exit-codes=3"}, []int{3, 1}, 1, nil, "", 2, 2},
		"transient once":    {[]string{"transient-error-exit-codes=75"}, []int{75, 0}, 0, nil, "", 2, 1},
		"transient":         {[]string{"transient-error-exit-codes=75"}, []int{75}, 75, execution.ErrTransient, "exit code 75 is one of transient-error-exit-codes (the action was tried 3 times)", 3, 1},
		"both":              {[]string{"transient-error-exit-codes=3", "runner-crashed-exit-codes=3"}, []int{3}, 3, execution.ErrTransient, "tried 3 times", 3, 3},
		"another":           {[]string{"transient-error-exit-codes=75", "runner-crashed-exit-codes=3"}, []int{4}, 4, nil, "", 1, 1},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.action.Platform = platformOf(append(tc.props, "recycle-runner=true")...)
			r.executor = execution.WithRetries(r.executor, 3)
			r.exits(tc.codes...)
			out := r.run(t.Context())
			if !errors.Is(out.Err, tc.err) || out.Result.GetExitCode() != tc.code {
				t.Fatalf("exit code %d, %v", out.Result.GetExitCode(), out.Err)
			}
			if text := out.Message + errText(out.Err); !strings.Contains(text, tc.told) || tc.told == "" && strings.Contains(text, "tried") {
				t.Errorf("told %q, want %q", text, tc.told)
			}
			if runs, starts := r.fake.Count(runnertest.OpRun), r.fake.Count(runnertest.OpStart); runs != tc.runs || starts != tc.starts {
				t.Errorf("%d runs in %d runners, want %d in %d", runs, starts, tc.runs, tc.starts)
			}
		})
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// A command that was killed says nothing of its runner, whatever the code is.
func TestExitCodesOfKilledCommands(t *testing.T) {
	for name, res := range map[string]runners.Result{
		"timeout":       {Signal: 9, TimedOut: true},
		"out of memory": {Signal: 9, Memory: runners.Memory{Kills: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.action.Platform = platformOf("transient-error-exit-codes=137", "runner-crashed-exit-codes=137")
			r.program(func(string, runnertest.Process) (runners.Result, error) { return res, nil })
			if out := execution.WithRetries(r.executor, 3).Execute(t.Context(), r.task(), noReport); out.Again != "" || errors.Is(out.Err, execution.ErrTransient) {
				t.Errorf("%+v", out)
			}
			if n := r.fake.Count(runnertest.OpRun); n != 1 {
				t.Errorf("%d runs", n)
			}
		})
	}
}

// onTheHost lets the rig's actions run as processes of this host, under real exec
// servers.
func (r *rig) onTheHost() *runners.Pool {
	r.t.Helper()
	dir := runnertest.PublicDir(r.t)
	backend, err := runnertest.NewHostProcess(dir, builtPrograms(r.t).execServer)
	if err != nil {
		r.t.Fatal(err)
	}
	pool, err := runners.NewPool(backend, runners.Options{Dir: dir})
	if err != nil {
		r.t.Fatal(err)
	}
	stager := tree.NewCopier(r.instance.Store, tree.CopierOptions{})
	r.instance.Stager = stager
	r.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := errors.Join(pool.Close(ctx), stager.Close()); err != nil {
			r.t.Error(err)
		}
	})
	r.executor = execution.NewAction(execution.ActionOptions{
		Pool: pool, DefaultTimeout: time.Minute, MaxTimeout: time.Minute, SpoolDir: r.t.TempDir(), MaxPrinted: 1 << 20,
	})
	return pool
}

// TestDialectOnTheHost: a command that finds its runner broken gets another, one that
// says it may succeed gets the same; both see the arguments and variables that their
// properties add.
func TestDialectOnTheHost(t *testing.T) {
	r := newRig(t)
	pool := r.onTheHost()
	r.executor = execution.WithRetries(r.executor, 3)
	// The first command fails, and leaves a mark that the next one finds.
	r.command.Arguments = []string{"/bin/sh", "-c", `mkdir "$MARK" 2>/dev/null && exit 3
		[ "$A$B" = 1x,y ] && [ "$*" = "--more two" ] || exit 9`, "sh"}
	for i, name := range []string{"runner-crashed-exit-codes=3", "transient-error-exit-codes=3"} {
		marks := runnertest.PublicDir(t)
		if err := os.Chmod(marks, 0o777); err != nil {
			t.Fatal(err)
		}
		r.action.Platform = platformOf("recycle-runner=true", name, "extra-args=--more, two",
			"env-overrides=A=1,MARK="+marks+"/mark", "env-overrides-base64=Qj14LHk=")
		if out := r.executor.Execute(t.Context(), r.task(), noReport); out.Err != nil || out.Result.GetExitCode() != 0 {
			t.Fatalf("%s: %+v", name, out)
		}
		infos := pool.Snapshot()
		if last := infos[len(infos)-1]; last.Runs != i+1 || !strings.HasSuffix(last.ID, fmt.Sprintf("-%d", i+2)) {
			t.Errorf("%s: runner %+v", name, last)
		}
	}
}
