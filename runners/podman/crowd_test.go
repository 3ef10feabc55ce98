package podman_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hearth-build/hearth/runners"
)

// counted is a Backend that knows how many containers there are.
type counted struct {
	runners.Backend
	live, most, started atomic.Int64
}

func (c *counted) Start(ctx context.Context, spec runners.Spec) (runners.Instance, error) {
	n := c.live.Add(1)
	for most := c.most.Load(); n > most && !c.most.CompareAndSwap(most, n); most = c.most.Load() {
	}
	c.started.Add(1)
	in, err := c.Backend.Start(ctx, spec)
	if err != nil {
		c.live.Add(-1)
		return nil, err
	}
	return &countedInstance{Instance: in, of: c}, nil
}

// countedInstance is one of them until it is removed.
type countedInstance struct {
	runners.Instance
	of   *counted
	once sync.Once
}

func (c *countedInstance) Remove(ctx context.Context) error {
	err := c.Instance.Remove(ctx)
	if err == nil {
		c.once.Do(func() { c.of.live.Add(-1) })
	}
	return err
}

// crowdActions is how many actions crowd the runners; CROWD_ACTIONS says so else.
func crowdActions(t *testing.T) int64 {
	t.Helper()
	text, ok := os.LookupEnv("CROWD_ACTIONS")
	if !ok {
		return 300
	}
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil || n < 1 {
		t.Fatalf("CROWD_ACTIONS=%s: say how many actions", text)
	}
	return n
}

// Many actions of 20 keys crowd 6 runners: there are never more containers, each action
// finds in its container the mark of its own key alone, and every container is gone at
// the end.
func TestManyKeysInFewContainers(t *testing.T) {
	const keys, limit, clients = 20, 6, 4
	actions, dataDir := crowdActions(t), t.TempDir()
	inARow := max(actions/keys, 1) // builds ask for many of a kind in a row
	if actions > 2000 {
		inARow = 250 // and come back
	}
	backend := &counted{Backend: open(t, options(dataDir))}
	pool, err := runners.NewPool(backend, runners.Options{Dir: filepath.Join(dataDir, "runners"), MaxRunners: limit})
	if err != nil {
		t.Fatal(err)
	}
	var next, warm atomic.Int64
	begin := time.Now()
	var group sync.WaitGroup
	for range clients {
		group.Go(func() {
			for n := next.Add(1); n <= actions; n = next.Add(1) {
				lease, err := runMarked(t.Context(), pool, n/inARow%keys)
				if err != nil {
					t.Errorf("action %d: %v", n, err)
					return
				}
				if lease.Warm {
					warm.Add(1)
				}
			}
		})
	}
	group.Wait()
	took := time.Since(begin)
	closing, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := pool.Close(closing); err != nil {
		t.Error(err)
	}
	if n := backend.most.Load(); n > limit {
		t.Errorf("there were %d containers, and %d are allowed", n, limit)
	}
	out, err := exec.Command("podman", "ps", "--all", "--quiet", "--filter=label=build.hearth.data-dir="+dataDir).Output()
	if err != nil || len(bytes.TrimSpace(out)) > 0 || backend.live.Load() != 0 {
		t.Errorf("%d containers are left: %s %v", backend.live.Load(), out, err)
	}
	t.Logf("%d actions in %v: %d had a used container, %d were started, at most %d at a time",
		actions, took, warm.Load(), backend.started.Load(), backend.most.Load())
}

// runMarked runs an action of a key, which marks its container with that, and fails if
// another one was there.
func runMarked(ctx context.Context, pool *runners.Pool, key int64) (runners.LeaseInfo, error) {
	platform, err := runners.ParsePlatform([]runners.Property{
		{Name: "recycle-runner", Value: "true"}, {Name: "dockerRunAsRoot", Value: "true"}, {Name: "key", Value: fmt.Sprint(key)},
	}, nil, nil)
	if err != nil {
		return runners.LeaseInfo{}, err
	}
	lease, err := pool.Acquire(ctx, runners.Request{Platform: platform})
	if err != nil {
		return runners.LeaseInfo{}, err
	}
	defer lease.Release()
	mark := asRoot(fmt.Sprintf("[ -e /opt/key ] || echo %[1]d > /opt/key; read -r k < /opt/key; [ $k = %[1]d ]", key))
	res, err := lease.Run(ctx, mark, io.Discard, io.Discard)
	if err == nil && res.ExitCode != 0 {
		err = fmt.Errorf("its container, %s, is of another key: %+v", lease.Info().RunnerID, res)
	}
	return lease.Info(), err
}
