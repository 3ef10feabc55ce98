package execution_test

import (
	"context"
	"fmt"
	"hash/fnv"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hearth-build/hearth/reapi/execution"
)

// crowd is invocations that share a scheduler.
type crowd struct {
	*bench
	mu     sync.Mutex // guards waited
	waited map[string][]time.Duration
}

func newCrowd(t *testing.T, slots int) *crowd {
	t.Helper()
	c := &crowd{waited: map[string][]time.Duration{}}
	c.bench, _ = newMatchingBench(t, cpus(slots), func(ctx context.Context, task *execution.Task, report execution.Report) *execution.Outcome {
		c.mu.Lock()
		c.waited[task.Invocation] = append(c.waited[task.Invocation], time.Since(task.Timeline.Queued))
		c.mu.Unlock()
		h := fnv.New32a()
		h.Write(task.Action.GetSalt())
		return sleepingFor(time.Duration(500+h.Sum32()%1000)*time.Millisecond)(ctx, task, report)
	})
	return c
}

// send submits the i-th action of an invocation.
func (c *crowd) send(invocation string, i int) *execution.Operation {
	a := c.action(i, "a=1")
	a.Salt = fmt.Appendf(nil, "%s %d", invocation, i)
	req := c.request(a)
	req.Invocation = invocation
	return c.submit(req)
}

// build sends n actions and waits for all, with so many in flight as a client's
// --jobs says.
func (c *crowd) build(invocation string, n, jobs int) {
	var ops sync.WaitGroup
	inFlight := make(chan struct{}, jobs)
	for i := range n {
		inFlight <- struct{}{}
		op := c.send(invocation, i)
		ops.Go(func() {
			defer func() { <-inFlight }()
			final(c.t, op)
		})
	}
	ops.Wait()
}

// p50 is the median of how long the actions of the ordinary invocations waited.
func (c *crowd) p50() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []time.Duration
	for name, waited := range c.waited {
		if name != "flood" {
			all = append(all, waited...)
		}
	}
	slices.Sort(all)
	return all[len(all)/2]
}

// The queue is fair without any set-up: of ten invocations with 1,000 actions,
// one sends 10,000 before all others. Those wait at most twice as long.
func TestFloodDelaysOnlyItself(t *testing.T) {
	for name, jobs := range map[string]int{"all at once": 100, "--jobs=8": 8} {
		t.Run(name, func(t *testing.T) {
			measure := func(flood int) (p50 time.Duration) {
				synctest.Test(t, func(t *testing.T) {
					c := newCrowd(t, 8)
					defer c.close()
					for i := range flood {
						c.send("flood", i)
					}
					synctest.Wait()
					var wg sync.WaitGroup
					for i := range 9 {
						wg.Go(func() { c.build(fmt.Sprint("invocation ", i), 100, jobs) })
					}
					wg.Wait()
					p50 = c.p50()
				})
				return p50
			}
			alone, unloaded, flooded := measure(0), measure(100), measure(10_000)
			t.Logf("p50 queue time of 9 invocations with 100 actions each on 8 CPUs: %v alone, %v beside a tenth with 100, %v beside a tenth with 10,000: ratio %.2f (%.2f)",
				alone, unloaded, flooded, float64(flooded)/float64(unloaded), float64(flooded)/float64(alone))
			if flooded > 2*unloaded {
				t.Errorf("the flood makes others wait %v instead of %v", flooded, unloaded)
			}
		})
	}
}
