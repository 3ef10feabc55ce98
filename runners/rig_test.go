package runners_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hearth-build/hearth/runners"
	"github.com/hearth-build/hearth/runners/runnertest"
)

// rig is a pool over a Fake, in virtual time.
type rig struct {
	*testing.T
	fake *runnertest.Fake
	pool *runners.Pool
	dir  string
}

// inBubble runs a test and then checks that closing the pool leaves nothing.
// The bubble itself fails a test that leaks a goroutine.
func inBubble(t *testing.T, opts runners.Options, test func(r *rig)) {
	t.Helper()
	inBubbleWith(t, runnertest.NewFake, opts, test)
}

// inBubbleWith is inBubble over a backend that is not as new when the pool begins.
func inBubbleWith(t *testing.T, fake func() *runnertest.Fake, opts runners.Options, test func(r *rig)) {
	t.Helper()
	opts.Dir = t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		r := &rig{T: t, fake: fake(), dir: opts.Dir}
		r.open(opts)
		test(r)
		r.close()
	})
}

func (r *rig) open(opts runners.Options) {
	r.Helper()
	opts.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	pool, err := runners.NewPool(r.fake, opts)
	if err != nil {
		r.Fatal(err)
	}
	r.pool = pool
}

func (r *rig) close() {
	r.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := r.pool.Close(ctx); err != nil {
		r.Errorf("close: %v", err)
	}
	r.nothingLeft()
}

func (r *rig) nothingLeft() {
	r.Helper()
	if live := r.fake.Live(); len(live) > 0 {
		r.Errorf("containers left: %v", live)
	}
	entries, err := os.ReadDir(r.dir)
	if err != nil || len(entries) > 0 {
		r.Errorf("directories left: %v %v", entries, err)
	}
	for _, v := range r.fake.Violations() {
		r.Errorf("contract of the backend violated: %s", v)
	}
	if s := r.pool.Snapshot(); len(s) > 0 {
		r.Errorf("snapshot of a closed pool: %v", s)
	}
}

// platform of NAME=VALUE words.
func platform(t testing.TB, words ...string) runners.Platform {
	t.Helper()
	p, err := runners.ParsePlatform(props(words...), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func props(words ...string) []runners.Property {
	var list []runners.Property
	for _, w := range words {
		name, value, _ := strings.Cut(w, "=")
		list = append(list, runners.Property{Name: name, Value: value})
	}
	return list
}

// recycled is a request for a runner that is kept, of a platform.
func (r *rig) recycled(words ...string) runners.Request {
	return runners.Request{Platform: platform(r, append(words, "recycle-runner=true")...), Tenant: "t"}
}

func (r *rig) acquire(req runners.Request) *runners.Lease {
	r.Helper()
	lease, err := r.pool.Acquire(r.Context(), req)
	if err != nil {
		r.Fatalf("acquire: %v", err)
	}
	return lease
}

// use runs a whole action and returns what its runner was.
func (r *rig) use(req runners.Request) runners.LeaseInfo {
	r.Helper()
	lease := r.acquire(req)
	r.run(lease, "true")
	lease.Release()
	return lease.Info()
}

func (r *rig) run(lease *runners.Lease, args ...string) {
	r.Helper()
	if _, err := lease.Run(r.Context(), runners.Command{Args: args}, io.Discard, io.Discard); err != nil {
		r.Fatalf("run %v: %v", args, err)
	}
}

// state of a runner, Removed if it is gone.
func (r *rig) state(id string) runners.State {
	for _, info := range r.pool.Snapshot() {
		if info.ID == id {
			return info.State
		}
	}
	return runners.Removed
}

func (r *rig) wantState(id string, want runners.State) {
	r.Helper()
	synctest.Wait()
	if got := r.state(id); got != want {
		r.Errorf("after %v: runner %s is %v, want %v", time.Since(epoch), id, got, want)
	}
}

// epoch is when the time of each bubble begins.
var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// burn makes a runner use a share of one CPU from now on.
func (r *rig) burn(id string, share float64) {
	start := time.Now()
	r.fake.SetCPU(id, func() time.Duration { return time.Duration(share * float64(time.Since(start))) })
}

// at lets virtual time pass.
func at(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

var errBroken = errors.New("broken on purpose")

// failing is a hook that fails one kind of call.
func failing(op string) runnertest.Hook {
	return func(_ context.Context, o, _ string) error {
		if o == op {
			return errBroken
		}
		return nil
	}
}

// hanging is a hook in which one kind of call does not return before release,
// whatever its context says.
func hanging(op string, release <-chan struct{}) runnertest.Hook {
	return func(_ context.Context, o, _ string) error {
		if o == op {
			<-release
		}
		return nil
	}
}
