package runners_test

import (
	"context"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/hearth-build/hearth/runners"
	"github.com/hearth-build/hearth/runners/runnertest"
)

// Ten thousand actions of 20 keys crowd 6 runners: there are never more, each action
// finds itself where only its key has been, alone, and nothing is left.
func TestManyKeysInFewRunners(t *testing.T) {
	const actions, keys, limit, clients = 10_000, 20, 6, 16
	fake := runnertest.NewFake()
	var mu sync.Mutex
	keyOf, busy := map[string]string{}, map[string]bool{}
	fake.SetProgram(func(_ context.Context, p runnertest.Process) (runners.Result, error) {
		mu.Lock()
		defer mu.Unlock()
		key := p.Command.Args[0]
		if was, ok := keyOf[p.RunnerID]; ok && was != key {
			t.Errorf("runner %s of %s runs an action of %s", p.RunnerID, was, key)
		}
		keyOf[p.RunnerID] = key
		if n := len(fake.Live()); n > limit {
			t.Errorf("%d containers", n)
		}
		return runners.Result{}, nil
	})
	pool, err := runners.NewPool(fake, runners.Options{Dir: t.TempDir(), MaxRunners: limit, Spares: 1})
	if err != nil {
		t.Fatal(err)
	}
	requests := make([]runners.Request, keys)
	for i := range requests {
		requests[i] = runners.Request{Platform: platform(t, "recycle-runner=true", fmt.Sprintf("k=%d", i))}
	}
	var next, warm atomic.Int64
	var group sync.WaitGroup
	for range clients {
		group.Go(func() {
			for n := next.Add(1); n <= actions; n = next.Add(1) {
				key := int(n/50) % keys // builds ask for many of a kind in a row
				lease, err := pool.Acquire(t.Context(), requests[key])
				if err != nil {
					t.Error(err)
					return
				}
				id := lease.Info().RunnerID
				mu.Lock()
				if busy[id] {
					t.Errorf("%s is leased twice", id)
				}
				busy[id] = true
				mu.Unlock()
				if lease.Info().Warm {
					warm.Add(1)
				}
				if _, err := lease.Run(t.Context(), runners.Command{Args: []string{fmt.Sprint(key)}}, io.Discard, io.Discard); err != nil {
					t.Error(err)
				}
				mu.Lock()
				busy[id] = false
				mu.Unlock()
				lease.Release()
			}
		})
	}
	group.Wait()
	if err := pool.Close(context.Background()); err != nil {
		t.Error(err)
	}
	if live, v := fake.Live(), fake.Violations(); len(live) > 0 || len(v) > 0 {
		t.Errorf("left: %v; violations: %v", live, v)
	}
	if share := float64(warm.Load()) / actions; share < 0.5 {
		t.Errorf("only %.0f%% of the actions had a used runner", 100*share)
	}
	t.Logf("%d of %d actions had a used runner; %d were started", warm.Load(), actions, fake.Count(runnertest.OpStart))
}
