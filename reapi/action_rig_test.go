package reapi_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"

	"github.com/hearth-build/hearth/cas/actioncache"
	"github.com/hearth-build/hearth/cas/memory"
	"github.com/hearth-build/hearth/cas/tree"
	"github.com/hearth-build/hearth/reapi"
	"github.com/hearth-build/hearth/reapi/execution"
	"github.com/hearth-build/hearth/runners"
	"github.com/hearth-build/hearth/runners/runnertest"
)

// newActionFixture is a server that really runs actions, on fake runners whose
// commands are program.
func newActionFixture(t testing.TB, program runnertest.Program) *fixture {
	t.Helper()
	instances := reapi.Instances{}
	var stagers []*tree.Copier
	for _, name := range []string{"", "team/one"} {
		store := memory.New(512 << 20)
		stager := tree.NewCopier(store, tree.CopierOptions{TrashDir: filepath.Join(t.TempDir(), "trash")})
		stagers = append(stagers, stager)
		instances[name] = &execution.Instance{
			Name: name, Store: store, Results: actioncache.Complete(actioncache.NewMemory(1<<20), store),
			Inputs: tree.NewKeeper(tree.NewLoader(store, tree.LoaderOptions{}), store, tree.KeeperOptions{}), Stager: stager,
		}
	}
	fake := runnertest.NewFake()
	fake.SetProgram(program)
	pool, err := runners.NewPool(fake, runners.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // after the server's
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		err := pool.Close(ctx)
		for _, s := range stagers {
			err = errors.Join(err, s.Close())
		}
		if err != nil {
			t.Error(err)
		}
		if v := fake.Violations(); len(v) > 0 {
			t.Errorf("the runners were misused: %v", v)
		}
	})
	f := newFixtureOf(t, instances)
	action := execution.NewAction(execution.ActionOptions{
		Pool: pool, DefaultTimeout: time.Hour, MaxTimeout: 2 * time.Hour, SpoolDir: t.TempDir(), MaxPrinted: 256 << 20,
	})
	f.run = execution.WithServerLogs(execution.WithCaching(execution.WithTiming(execution.WithRetries(action, 3), "here"))).Execute
	return f
}

// putAction stores an action of a command and an input root, and returns a
// request for it.
func (f *fixture) putAction(command *repb.Command, root *repb.Directory) *repb.ExecuteRequest {
	f.t.Helper()
	return &repb.ExecuteRequest{ActionDigest: f.putMessage(&repb.Action{
		CommandDigest: f.putMessage(command), InputRootDigest: f.putMessage(root),
		Platform: &repb.Platform{Properties: []*repb.Platform_Property{{Name: "recycle-runner", Value: "true"}}},
	})}
}
