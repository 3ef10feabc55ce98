package runnertest_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/hearth-build/hearth/runners"
	"github.com/hearth-build/hearth/runners/runnertest"
)

// TestPoolOverRealProcesses: what the virtual time of the pool's own tests
// cannot show, with real exec servers, files and signals.
func TestPoolOverRealProcesses(t *testing.T) {
	server, err := runnertest.BuildExecServer(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	dir := runnertest.PublicDir(t)
	backend, err := runnertest.NewHostProcess(dir, server)
	if err != nil {
		t.Fatal(err)
	}
	goroutines := runtime.NumGoroutine()
	pool, err := runners.NewPool(backend, runners.Options{Dir: dir, Pause: runners.PauseAlways, PauseDelay: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	closed := false
	closePool := func() {
		if closed {
			return
		}
		closed = true
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := pool.Close(ctx); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	t.Cleanup(closePool)
	p := &realPool{T: t, Pool: pool}

	lease := p.acquire()
	id := lease.Info().RunnerID
	p.run(lease, "echo hello > file; sleep 1000 & exit 0")
	if content, err := os.ReadFile(filepath.Join(lease.Dir(), "file")); err != nil || string(content) != "hello\n" {
		t.Errorf("the action's file: %q %v", content, err)
	}
	lease.Release()
	p.await(id, runners.Paused)
	lease = p.acquire()
	if info := lease.Info(); info.RunnerID != id || info.Runs != 2 || info.WokenFrom != runners.Paused {
		t.Errorf("after a pause: %+v", info)
	}
	p.run(lease, "cat file")
	lease.Release()

	// A runner that died while it was idle is not used twice.
	lease = p.acquire()
	p.kill(dir, lease.Info().RunnerID)
	if _, err := lease.Run(t.Context(), script("true"), io.Discard, io.Discard); !errors.Is(err, runners.ErrLost) {
		t.Errorf("in a dead runner: %v", err)
	}
	lease.Release()
	lease = p.acquire()
	if info := lease.Info(); info.Warm || !strings.Contains(info.ColdReason, "it failed its last action") {
		t.Errorf("after a dead runner: %+v", info)
	}
	p.run(lease, "true")
	lease.Release()

	closePool()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) > 0 {
		t.Errorf("left: %v %v", entries, err)
	}
	p.poll("goroutines end", func() bool { return runtime.NumGoroutine() <= goroutines })
}

type realPool struct {
	*testing.T
	*runners.Pool
}

func script(text string) runners.Command {
	return runners.Command{Args: []string{"/bin/sh", "-c", text}, Dir: runners.ContainerWorkDir}
}

func (p *realPool) acquire() *runners.Lease {
	p.Helper()
	platform, err := runners.ParsePlatform([]runners.Property{{Name: "recycle-runner", Value: "true"}}, nil, nil)
	if err != nil {
		p.Fatal(err)
	}
	lease, err := p.Acquire(p.Context(), runners.Request{Platform: platform})
	if err != nil {
		p.Fatalf("acquire: %v", err)
	}
	return lease
}

func (p *realPool) run(lease *runners.Lease, text string) {
	p.Helper()
	res, err := lease.Run(p.Context(), script(text), io.Discard, io.Discard)
	if err != nil || res.ExitCode != 0 || res.Signal != 0 {
		p.Errorf("%s: %+v %v", text, res, err)
	}
}

// kill ends a runner behind the pool's back, as a crash of its server would.
func (p *realPool) kill(dir, id string) {
	p.Helper()
	copied := p.TempDir() // of the one runner, as if nobody owned it
	content, err := os.ReadFile(filepath.Join(dir, id, "pid"))
	if err != nil {
		p.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(copied, id), 0o700); err != nil {
		p.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(copied, id, "pid"), content, 0o600); err != nil {
		p.Fatal(err)
	}
	other, err := runnertest.NewHostProcess(copied, "/bin/sh")
	if err != nil {
		p.Fatal(err)
	}
	if n, err := other.Sweep(p.Context()); n != 1 || err != nil {
		p.Fatalf("kill %s: %d %v", id, n, err)
	}
}

func (p *realPool) await(id string, want runners.State) {
	p.Helper()
	p.poll(id+" becomes "+want.String(), func() bool {
		for _, info := range p.Snapshot() {
			if info.ID == id && info.State == want {
				return true
			}
		}
		return false
	})
}

func (p *realPool) poll(what string, done func() bool) {
	p.Helper()
	deadline := time.Now().Add(time.Minute)
	for !done() {
		if time.Now().After(deadline) {
			p.Fatalf("%s: waited in vain", what)
		}
		<-time.After(time.Millisecond)
	}
}
