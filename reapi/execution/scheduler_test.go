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
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/actioncache"
	"github.com/hearth-build/hearth/cas/memory"
	"github.com/hearth-build/hearth/reapi/execution"
)

// executorFunc is an Executor made of a function.
type executorFunc func(context.Context, *execution.Task, execution.Report) *execution.Outcome

func (f executorFunc) Execute(ctx context.Context, t *execution.Task, report execution.Report) *execution.Outcome {
	return f(ctx, t, report)
}

// bench is a scheduler with a store to put actions into.
type bench struct {
	*execution.Scheduler
	t        *testing.T
	instance *execution.Instance
	run      executorFunc
}

func newBench(t *testing.T, slots int, opts execution.SchedulerOptions, run executorFunc) *bench {
	t.Helper()
	s, err := execution.NewSlots(execution.SlotsOptions{Total: cpus(slots), MaxQueued: 3})
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, instance: newInstance(""), run: run}
	execute := executorFunc(func(ctx context.Context, task *execution.Task, report execution.Report) *execution.Outcome {
		return b.run(ctx, task, report)
	})
	b.Scheduler, err = execution.NewScheduler(execution.WithAdmission(execute, s), s, opts)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// cpus is a machine with ample memory.
func cpus(n int) execution.Resources {
	return execution.Resources{MilliCPU: int64(n) * 1000, Memory: int64(n) << 30, Runners: 1000}
}

func newInstance(name string) *execution.Instance {
	store := memory.New(1 << 20)
	return &execution.Instance{Name: name, Store: store, Results: actioncache.Complete(actioncache.NewMemory(1000), store)}
}

// close ends the scheduler, so that no goroutine and timer is left.
func (b *bench) close() {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), time.Second)
	defer cancel()
	_ = b.Close(ctx) // says only whether runs had to be cancelled
}

func (b *bench) request(action *repb.Action) *execution.Request {
	b.t.Helper()
	return &execution.Request{Instance: b.instance, Action: put(b.t, b.instance.Store, action)}
}

func put(t *testing.T, s cas.Store, m proto.Message) cas.Digest {
	t.Helper()
	data, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	d, err := cas.PutBytes(t.Context(), s, cas.SHA256, data)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func (b *bench) submit(req *execution.Request) *execution.Operation {
	b.t.Helper()
	op, err := b.Submit(b.t.Context(), req)
	if err != nil {
		b.t.Fatal(err)
	}
	return op
}

// final watches an operation to its end.
func final(t *testing.T, op *execution.Operation) *execution.Outcome {
	t.Helper()
	var last execution.State
	if err := op.Watch(t.Context(), func(s execution.State) error { last = s; return nil }); err != nil {
		t.Fatal(err)
	}
	if !last.Done() || last.Stage() != repb.ExecutionStage_COMPLETED {
		t.Fatalf("the last state is %v, not a completed one", last)
	}
	return last.Outcome
}

func exited(code int32) *execution.Outcome {
	return &execution.Outcome{Result: &repb.ActionResult{ExitCode: code}}
}

func salted(n int) *repb.Action { return &repb.Action{Salt: fmt.Appendf(nil, "%d", n)} }

// REAPI F26: requests for one action share a run, REAPI F24: unless it may not be cached.
func TestSubmitMergesEqualActions(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(second *execution.Request)
		action *repb.Action
		runs   int
	}{
		{"equal", func(*execution.Request) {}, salted(1), 1},
		{"do_not_cache", func(*execution.Request) {}, &repb.Action{DoNotCache: true}, 2},
		{"other tenant", func(r *execution.Request) { r.Tenant = "other" }, salted(1), 2},
		{"other overrides", func(r *execution.Request) { r.Overrides = append(r.Overrides, propertyForTest()) }, salted(1), 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				runs := 0
				b := newBench(t, 4, execution.SchedulerOptions{}, func(context.Context, *execution.Task, execution.Report) *execution.Outcome {
					mu.Lock()
					runs++
					mu.Unlock()
					time.Sleep(time.Second) // virtual time
					return exited(7)
				})
				defer b.close()
				first, second := b.request(tc.action), b.request(tc.action)
				tc.change(second)
				one, two := b.submit(first), b.submit(second)
				if one.Name() == two.Name() {
					t.Error("two requests got one operation name")
				}
				for _, op := range []*execution.Operation{one, two} {
					if code := final(t, op).Result.GetExitCode(); code != 7 {
						t.Errorf("exit code %d", code)
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

// REAPI F35: lower numbers first, FIFO among equals; REAPI F26: a merged request
// makes a waiting run more urgent.
func TestAdmissionOrder(t *testing.T) {
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
		b.submit(b.request(salted(0))) // takes the slot
		synctest.Wait()
		low, normal, urgent := b.request(salted(1)), b.request(salted(2)), b.request(salted(3))
		low.Priority, urgent.Priority = 5, -5
		for _, r := range []*execution.Request{low, normal, urgent} {
			b.submit(r)
			synctest.Wait()
		}
		again := *low
		again.Priority = -9
		last := b.submit(&again)
		final(t, last)
		time.Sleep(time.Minute)
		mu.Lock()
		defer mu.Unlock()
		if got := fmt.Sprint(order); got != "[0 1 3 2]" {
			t.Errorf("order %v", got)
		}
	})
}

// REAPI F41, F50: the queue is bounded.
func TestQueueFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 1, execution.SchedulerOptions{}, func(context.Context, *execution.Task, execution.Report) *execution.Outcome {
			time.Sleep(time.Second)
			return exited(0)
		})
		defer b.close()
		var last *execution.Operation
		for i := range 5 { // one runs, three wait
			last = b.submit(b.request(salted(i)))
			synctest.Wait()
		}
		if err := final(t, last).Err; !errors.Is(err, execution.ErrQueueFull) {
			t.Errorf("error %v", err)
		}
		if got := b.Load(); got.Running != 1 || got.Queued != 3 {
			t.Errorf("load %+v", got)
		}
	})
}

// REAPI F1, F7, F11, F13: each watcher gets the present state at once, a sign
// of life while nothing happens, and the end.
func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 1, execution.SchedulerOptions{}, func(context.Context, *execution.Task, execution.Report) *execution.Outcome {
			time.Sleep(65 * time.Second)
			return exited(0)
		})
		defer b.close()
		op := b.submit(b.request(salted(1)))
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				begin := time.Now()
				states := 0
				var gap time.Duration
				previous := begin
				err := op.Watch(t.Context(), func(execution.State) error {
					states++
					gap = max(gap, time.Since(previous))
					previous = time.Now()
					return nil
				})
				if err != nil || states < 7 || gap > 15*time.Second {
					t.Errorf("error %v, %d states, longest gap %v", err, states, gap)
				}
			})
		}
		stuck := errors.New("this watcher's connection broke")
		if err := op.Watch(t.Context(), func(execution.State) error { return stuck }); !errors.Is(err, stuck) {
			t.Errorf("a failing watcher got %v", err)
		}
		wg.Wait()
		if states := 0; op.Watch(t.Context(), func(s execution.State) error {
			states++
			if !s.Done() {
				t.Error("a finished operation is not done")
			}
			return nil
		}) != nil || states != 1 {
			t.Errorf("a finished operation sent %d states", states)
		}
	})
}

// REAPI F20: a run goes on for the grace when its client is gone, and ends then.
func TestOrphanGrace(t *testing.T) {
	for _, tc := range []struct {
		name      string
		back      time.Duration // when a watcher comes back; 0: never
		cancelled bool
	}{
		{"nobody comes back", 0, true},
		{"back in time", 20 * time.Second, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cause := make(chan error, 1)
				b := newBench(t, 1, execution.SchedulerOptions{OrphanGrace: 30 * time.Second}, func(ctx context.Context, _ *execution.Task, _ execution.Report) *execution.Outcome {
					select {
					case <-ctx.Done():
						cause <- context.Cause(ctx)
						return &execution.Outcome{Err: context.Cause(ctx)}
					case <-time.After(2 * time.Minute):
						cause <- nil
						return exited(0)
					}
				})
				defer b.close()
				op := b.submit(b.request(salted(1)))
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				if err := op.Watch(ctx, func(execution.State) error { return nil }); !errors.Is(err, context.DeadlineExceeded) {
					t.Fatalf("watch: %v", err)
				}
				if tc.back > 0 {
					time.Sleep(tc.back)
					again, ok := b.Operation("", op.Name())
					if !ok {
						t.Fatal("the operation is gone within its grace")
					}
					final(t, again)
				}
				if err := <-cause; errors.Is(err, execution.ErrCancelled) != tc.cancelled {
					t.Errorf("the run ended with %v", err)
				}
			})
		})
	}
}

// REAPI F12, F14: a finished operation can be asked for again, for a while.
func TestRetention(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 1, execution.SchedulerOptions{Retention: time.Minute, MaxFinished: 2}, func(context.Context, *execution.Task, execution.Report) *execution.Outcome {
			return exited(0)
		})
		defer b.close()
		var ops []*execution.Operation
		for i := range 3 {
			op := b.submit(b.request(salted(i)))
			final(t, op)
			ops = append(ops, op)
		}
		for i, want := range []bool{false, true, true} {
			if _, ok := b.Operation("", ops[i].Name()); ok != want {
				t.Errorf("operation %d of 3: found is %v", i, ok)
			}
		}
		time.Sleep(2 * time.Minute)
		if got := b.Load().Operations; got != 0 {
			t.Errorf("%d operations are left after the retention", got)
		}
	})
}

func TestClose(t *testing.T) {
	for _, tc := range []struct {
		name     string
		deadline time.Duration
		want     error
	}{
		{"finishes what runs", time.Minute, nil},
		{"cancels at the deadline", time.Second, context.DeadlineExceeded},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, 1, execution.SchedulerOptions{}, func(ctx context.Context, _ *execution.Task, _ execution.Report) *execution.Outcome {
					select {
					case <-ctx.Done():
						return &execution.Outcome{Err: context.Cause(ctx)}
					case <-time.After(10 * time.Second):
						return exited(0)
					}
				})
				op := b.submit(b.request(salted(1)))
				synctest.Wait() // it runs
				ctx, cancel := context.WithTimeout(t.Context(), tc.deadline)
				defer cancel()
				if err := b.Close(ctx); !errors.Is(err, tc.want) {
					t.Errorf("close: %v", err)
				}
				if err := final(t, op).Err; (err == nil) != (tc.want == nil) {
					t.Errorf("the run ended with %v", err)
				}
				if _, err := b.Submit(t.Context(), b.request(salted(2))); !errors.Is(err, execution.ErrDraining) {
					t.Errorf("a closed scheduler answers %v", err)
				}
				time.Sleep(time.Hour) // the timers of the operations
			})
		})
	}
}

// REAPI F31, F32, F44, F46.
func TestSubmitRefusesBadActions(t *testing.T) {
	b := newBench(t, 1, execution.SchedulerOptions{}, func(context.Context, *execution.Task, execution.Report) *execution.Outcome {
		t.Error("a bad action was run")
		return exited(0)
	})
	defer b.close()
	garbage, err := cas.PutBytes(t.Context(), b.instance.Store, cas.SHA256, []byte("\xff\xff\xff"))
	if err != nil {
		t.Fatal(err)
	}
	absent := cas.SHA256.Sum([]byte("never uploaded"))
	for _, tc := range []struct {
		name   string
		action cas.Digest
		want   error
	}{
		{"absent", absent, &cas.MissingError{Digests: []cas.Digest{absent}}},
		{"garbage", garbage, execution.ErrInvalid},
		{"negative timeout", put(t, b.instance.Store, &repb.Action{Timeout: durationpb.New(-1)}), execution.ErrInvalid},
		{"timeout out of range", put(t, b.instance.Store, &repb.Action{Timeout: &durationpb.Duration{Nanos: -5, Seconds: 3}}), execution.ErrInvalid},
	} {
		_, err := b.Submit(t.Context(), &execution.Request{Instance: b.instance, Action: tc.action})
		var wanted, got *cas.MissingError
		if errors.As(tc.want, &wanted) {
			if !errors.As(err, &got) || got.Digests[0] != absent {
				t.Errorf("%s: %v", tc.name, err)
			}
		} else if !errors.Is(err, tc.want) {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}

func TestSchedulerOptionsValidate(t *testing.T) {
	opts := execution.SchedulerOptions{OrphanGrace: -1, Retention: -1, MaxFinished: -1}
	err := opts.Validate()
	for _, field := range []string{"orphan-grace", "retention", "max-finished"} {
		if err == nil || !contains(err.Error(), field) {
			t.Errorf("%v does not name %s", err, field)
		}
	}
}
