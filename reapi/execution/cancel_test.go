package execution_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"

	"github.com/hearth-build/hearth/reapi/execution"
)

// sleeper runs each action for a time, unless it is cancelled, and counts.
type sleeper struct {
	mu        sync.Mutex // guards what follows
	started   int
	cancelled []error
}

func (s *sleeper) run(d time.Duration) executorFunc {
	return func(ctx context.Context, _ *execution.Task, report execution.Report) *execution.Outcome {
		s.mu.Lock()
		s.started++
		s.mu.Unlock()
		report(execution.Progress{Step: execution.StepExecution})
		select {
		case <-time.After(d):
			return exited(0)
		case <-ctx.Done():
		}
		s.mu.Lock()
		s.cancelled = append(s.cancelled, context.Cause(ctx))
		s.mu.Unlock()
		return &execution.Outcome{Err: errors.New("it was killed")}
	}
}

func (s *sleeper) want(t *testing.T, started, cancelled int) {
	t.Helper()
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.started != started || len(s.cancelled) != cancelled {
		t.Errorf("%d runs started and %v were cancelled, want %d and %d", s.started, s.cancelled, started, cancelled)
	}
}

// cached is a sleeper behind the action cache.
func (s *sleeper) cached(d time.Duration) executorFunc {
	e := execution.WithCaching(s.run(d))
	return e.Execute
}

func wantCancelled(t *testing.T, what string, out *execution.Outcome) {
	t.Helper()
	if !errors.Is(out.Err, execution.ErrCancelled) {
		t.Errorf("%s: %+v", what, out)
	}
}

// REAPI F17, F55: an operation that is cancelled ends, and its run with it; the
// run has ended when the operation has, and nothing is cached.
func TestCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s sleeper
		b := newBench(t, 1, execution.SchedulerOptions{}, s.cached(time.Hour))
		defer b.close()
		req := b.request(salted(1))
		op := b.submit(req)
		s.want(t, 1, 0)
		op.Cancel()
		op.Cancel() // once more does no harm
		wantCancelled(t, "the operation", final(t, op))
		s.want(t, 1, 1)
		if _, err := b.instance.Results.Get(t.Context(), req.Action); err == nil {
			t.Error("the result of a cancelled run is cached")
		}
		if again, ok := b.Operation("", op.Name()); !ok || !again.State().Done() {
			t.Error("a cancelled operation cannot be asked for")
		}
		if l := b.Load(); l.Running != 0 || l.Queued != 0 {
			t.Errorf("load %+v", l)
		}
		next := b.submit(req) // the same action once more
		s.want(t, 2, 1)
		next.Cancel()
		final(t, next)
	})
}

// REAPI F17: of those who share a run, only the one that cancels is cancelled,
// but for the last.
func TestCancelOfASharedRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s sleeper
		b := newBench(t, 1, execution.SchedulerOptions{}, s.run(time.Minute))
		defer b.close()
		var ops []*execution.Operation
		for range 3 {
			ops = append(ops, b.submit(b.request(salted(1))))
		}
		var wg sync.WaitGroup
		wg.Go(func() { // who watches learns of it at once
			begin := time.Now()
			wantCancelled(t, "the first", final(t, ops[0]))
			if d := time.Since(begin); d > time.Second {
				t.Errorf("it was told after %v", d)
			}
		})
		synctest.Wait()
		ops[0].Cancel()
		wg.Wait()
		s.want(t, 1, 0)
		ops[1].Cancel()
		if !ops[1].State().Done() || ops[2].State().Done() {
			t.Error("the wrong ones are done")
		}
		s.want(t, 1, 0)
		if out := final(t, ops[2]); out.Err != nil {
			t.Errorf("the last one ended with %v", out.Err)
		}
		wantCancelled(t, "the second, after the run", final(t, ops[1]))
		ops[2].Cancel()
		if out := final(t, ops[2]); out.Err != nil {
			t.Errorf("one that was done became %v", out.Err)
		}
	})
}

// REAPI F17: what waits for admission is cancelled at once, and takes no slot.
func TestCancelInTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s sleeper
		b := newBench(t, 1, execution.SchedulerOptions{}, s.run(time.Minute))
		defer b.close()
		first := b.submit(b.request(salted(1)))
		synctest.Wait()
		waiting := b.submit(b.request(salted(2)))
		synctest.Wait()
		waiting.Cancel()
		begin := time.Now()
		wantCancelled(t, "the one that waits", final(t, waiting))
		if time.Since(begin) > 0 {
			t.Errorf("it took %v", time.Since(begin))
		}
		final(t, first)
		s.want(t, 1, 0)
	})
}

// REAPI F26: when the urgent one of two requests is cancelled, the run is as
// urgent as the other.
func TestCancelTakesTheUrgencyAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var order []string
		b := newBench(t, 1, execution.SchedulerOptions{}, func(_ context.Context, task *execution.Task, _ execution.Report) *execution.Outcome {
			mu.Lock()
			order = append(order, string(task.Action.GetSalt()))
			mu.Unlock()
			time.Sleep(time.Second)
			return exited(0)
		})
		defer b.close()
		b.submit(b.request(salted(0)))
		synctest.Wait()
		b.submit(b.request(salted(1))) // it is its turn, whatever comes with the same priority
		synctest.Wait()
		b.submit(b.request(salted(2)))
		synctest.Wait()
		low := b.request(salted(3))
		low.Priority = 5
		lowOp := b.submit(low)
		synctest.Wait()
		urgent := *low
		urgent.Priority = -5
		b.submit(&urgent).Cancel()
		final(t, lowOp)
		mu.Lock()
		defer mu.Unlock()
		if got := fmt.Sprint(order); got != "[0 1 2 3]" {
			t.Errorf("order %s", got)
		}
	})
}

// REAPI F20: of two who watch a run, one may leave for good.
func TestRunGoesOnForWhoStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s sleeper
		b := newBench(t, 1, execution.SchedulerOptions{OrphanGrace: time.Minute}, s.run(10*time.Minute))
		defer b.close()
		one, two := b.submit(b.request(salted(1))), b.submit(b.request(salted(1)))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := one.Watch(ctx, func(execution.State) error { return nil }); err == nil {
			t.Error("the run ended")
		}
		if out := final(t, two); out.Err != nil {
			t.Errorf("the run ended with %v", out.Err)
		}
		s.want(t, 1, 0)
		if _, ok := b.Operation("", one.Name()); ok {
			t.Error("the operation is still there that nobody watched for minutes")
		}
	})
}

// REAPI F14: an operation that ended while nobody watched can be asked for as
// long as any other, from then on.
func TestRetentionBeginsWithTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s sleeper
		b := newBench(t, 1, execution.SchedulerOptions{OrphanGrace: time.Minute, Retention: 5 * time.Minute}, s.run(50*time.Second))
		defer b.close()
		op := b.submit(b.request(salted(1)))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_ = op.Watch(ctx, func(execution.State) error { return nil }) // its connection breaks
		time.Sleep(5 * time.Minute)
		again, ok := b.Operation("", op.Name())
		if !ok || again.Look().Outcome.Err != nil {
			t.Fatalf("found: %v", ok)
		}
		time.Sleep(6 * time.Minute)
		if _, ok := b.Operation("", op.Name()); ok {
			t.Error("it is kept for ever")
		}
		s.want(t, 1, 0)
	})
}

// REAPI F20: somebody who asks for the state now and then is somebody who waits.
func TestLookingKeepsARunAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s sleeper
		b := newBench(t, 1, execution.SchedulerOptions{OrphanGrace: time.Minute}, s.run(5*time.Minute))
		defer b.close()
		op := b.submit(b.request(salted(1)))
		for !op.Look().Done() {
			time.Sleep(50 * time.Second)
		}
		s.want(t, 1, 0)
		other := b.submit(b.request(salted(2)))
		other.Look()
		for range 3 {
			time.Sleep(50 * time.Second)
			other.State() // as others do who list operations
		}
		s.want(t, 2, 1)
	})
}

// REAPI F18: a deleted operation cannot be found, its run goes on, and who
// watches it learns the end.
func TestDelete(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s sleeper
		b := newBench(t, 1, execution.SchedulerOptions{OrphanGrace: time.Second}, s.cached(10*time.Minute))
		defer b.close()
		req := b.request(salted(1))
		op := b.submit(req)
		b.Delete(op)
		if _, ok := b.Operation("", op.Name()); ok {
			t.Error("it can be found")
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_ = op.Watch(ctx, func(execution.State) error { return nil }) // nobody watches any more
		time.Sleep(11 * time.Minute)
		s.want(t, 1, 0)
		if _, err := b.instance.Results.Get(t.Context(), req.Action); err != nil {
			t.Errorf("its result: %v", err)
		}
	})
}

// REAPI F18, I4: operations are their tenant's alone, in the order of their
// numbers, some at a time.
func TestOperationsOfTenants(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s sleeper
		b := newBench(t, 1, execution.SchedulerOptions{}, s.run(time.Minute))
		defer b.close()
		mine := map[string]bool{}
		var other *execution.Operation
		for i := range 5 {
			op := b.submit(b.request(salted(i % 2)))
			mine[op.Name()] = true
			req := b.request(salted(i % 2))
			req.Tenant = "other"
			other = b.submit(req)
		}
		if _, ok := b.Operation("", other.Name()); ok {
			t.Error("another tenant's operation can be found")
		}
		own := func(op *execution.Operation) bool { return op.Request().Tenant == "" }
		var after uint64
		for _, want := range []int{2, 2, 1, 0} {
			page := b.Operations(after, 2, own)
			if len(page) != want {
				t.Fatalf("%d operations on a page, want %d", len(page), want)
			}
			for _, op := range page {
				if !mine[op.Name()] || op.Number() <= after {
					t.Errorf("operation %d after %d", op.Number(), after)
				}
				after = op.Number()
				delete(mine, op.Name())
			}
		}
		if len(mine) > 0 {
			t.Errorf("not listed: %v", mine)
		}
	})
}

// REAPI F22, F23, F25: who wants no cached result may share a run that executes,
// but not one that may still be answered from the cache.
func TestSkippingTheCacheAndSharing(t *testing.T) {
	for _, tc := range []struct {
		name        string
		first, then bool // skip_cache_lookup
		lookup      bool // the first is still looking
		runs        int
	}{
		{"neither skips", false, false, false, 1},
		{"the second skips, the first executes", false, true, false, 1},
		{"the second skips, the first still looks", false, true, true, 2},
		{"the first skips", true, false, false, 1},
		{"both skip", true, true, false, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				runs := 0
				b := newBench(t, 4, execution.SchedulerOptions{}, nil)
				b.run = func(_ context.Context, task *execution.Task, report execution.Report) *execution.Outcome {
					mu.Lock()
					runs++
					mu.Unlock()
					if !task.SkipCacheLookup {
						task.Enter(report, execution.Progress{Step: execution.StepCacheLookup})
						time.Sleep(time.Second)
					}
					task.Enter(report, execution.Progress{Step: execution.StepExecution})
					time.Sleep(time.Minute)
					return exited(0)
				}
				defer b.close()
				first, then := b.request(salted(1)), b.request(salted(1))
				first.SkipCacheLookup, then.SkipCacheLookup = tc.first, tc.then
				one := b.submit(first)
				if !tc.lookup {
					time.Sleep(2 * time.Second)
				}
				synctest.Wait()
				two := b.submit(then)
				third := b.submit(first) // joins whichever is the newest
				for _, op := range []*execution.Operation{one, two, third} {
					if out := final(t, op); out.Err != nil || out.Cached {
						t.Errorf("%+v", out)
					}
				}
				mu.Lock()
				defer mu.Unlock()
				if runs != tc.runs {
					t.Errorf("%d runs, want %d", runs, tc.runs)
				}
			})
		})
	}
}

// REAPI F6, F8: what the API calls the steps.
func TestStages(t *testing.T) {
	for step, want := range map[execution.Step]repb.ExecutionStage_Value{
		execution.StepAccepted:    repb.ExecutionStage_QUEUED,
		execution.StepCacheLookup: repb.ExecutionStage_CACHE_CHECK,
		execution.StepQueued:      repb.ExecutionStage_QUEUED,
		execution.StepCheck:       repb.ExecutionStage_EXECUTING,
		execution.StepImage:       repb.ExecutionStage_EXECUTING,
		execution.StepOutputs:     repb.ExecutionStage_EXECUTING,
		execution.StepCompleted:   repb.ExecutionStage_COMPLETED,
	} {
		if got := (execution.State{Step: step}).Stage(); got != want {
			t.Errorf("%v is %v, want %v", step, got, want)
		}
	}
}
