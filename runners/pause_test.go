package runners_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hearth-build/hearth/runners"
	"github.com/hearth-build/hearth/runners/runnertest"
)

func TestIdleRunnerIsPausedAfterTheDelay(t *testing.T) {
	inBubble(t, runners.Options{Pause: runners.PauseAlways, PauseDelay: 5 * time.Second}, func(r *rig) {
		id := r.use(r.recycled()).RunnerID
		at(5*time.Second - 1)
		r.wantState(id, runners.Idle)
		at(1)
		r.wantState(id, runners.Paused)
		if !r.fake.Frozen(id) {
			t.Error("it is not frozen")
		}
		warm := r.use(r.recycled())
		if warm.RunnerID != id || !warm.Warm || warm.WokenFrom != runners.Paused {
			r.Errorf("woken: %+v", warm)
		}
		if r.fake.Frozen(id) {
			t.Error("it is still frozen")
		}
	})
}

func TestPauseAtOnce(t *testing.T) {
	inBubble(t, runners.Options{Pause: runners.PauseAlways, PauseDelay: runners.PauseAtOnce}, func(r *rig) {
		r.wantState(r.use(r.recycled()).RunnerID, runners.Paused)
	})
}

func TestTakingARunnerCancelsItsPause(t *testing.T) {
	inBubble(t, runners.Options{Pause: runners.PauseAlways}, func(r *rig) {
		for range 5 {
			r.use(r.recycled())
			at(4 * time.Second)
		}
		lease := r.acquire(r.recycled())
		at(time.Minute)
		if n := r.fake.Count(runnertest.OpFreeze); n != 0 {
			r.Errorf("%d freezes of a runner that was never idle for 5 s", n)
		}
		lease.Release()
	})
}

func TestPauseNever(t *testing.T) {
	inBubble(t, runners.Options{Pause: runners.PauseNever}, func(r *rig) {
		id := r.use(r.recycled()).RunnerID
		r.burn(id, 1)
		at(14 * time.Minute)
		r.wantState(id, runners.Idle)
	})
}

func TestAdaptivePauseFreezesWhatBurns(t *testing.T) {
	inBubble(t, runners.Options{}, func(r *rig) {
		burning, quiet := r.acquire(r.recycled()), r.acquire(r.recycled())
		r.burn(burning.Info().RunnerID, 0.02)
		r.burn(quiet.Info().RunnerID, 0.009)
		burning.Release()
		quiet.Release()
		at(5*time.Second - 1)
		r.wantState(burning.Info().RunnerID, runners.Idle)
		at(1)
		r.wantState(burning.Info().RunnerID, runners.Paused)
		r.wantState(quiet.Info().RunnerID, runners.Idle)
		at(14 * time.Minute)
		r.wantState(quiet.Info().RunnerID, runners.Idle)
	})
}

// What a look at the CPU time finds is told of the runner.
func TestCPUTimeIsTold(t *testing.T) {
	inBubble(t, runners.Options{IdleTimeout: time.Hour}, func(r *rig) {
		id := r.use(r.recycled()).RunnerID
		r.fake.SetCPU(id, func() time.Duration { return 3 * time.Second })
		if cpu := r.pool.Snapshot()[0].Footprint.CPU; cpu != 0 {
			t.Errorf("before it was looked at: %v", cpu)
		}
		at(time.Minute)
		if cpu := r.pool.Snapshot()[0].Footprint.CPU; cpu != 3*time.Second {
			t.Errorf("%v", cpu)
		}
	})
}

func TestAdaptivePauseLooksAgainEverMoreRarely(t *testing.T) {
	inBubble(t, runners.Options{IdleTimeout: time.Hour}, func(r *rig) {
		id := r.use(r.recycled()).RunnerID
		start := time.Now()
		var looks []time.Duration
		r.fake.SetCPU(id, func() time.Duration {
			looks = append(looks, time.Since(start))
			return 0
		})
		at(4 * time.Minute)
		r.burn(id, 0.5) // it begins late
		at(time.Minute)
		r.wantState(id, runners.Paused)
		want := []time.Duration{1, 5, 10, 20, 40, 80, 140, 200}
		if len(looks) != len(want) {
			t.Fatalf("looks at %v, want seconds %d", looks, want)
		}
		for i := range want {
			if looks[i] != want[i]*time.Second {
				t.Errorf("looks at %v, want seconds %d", looks, want)
			}
		}
	})
}

// TestRunnerThatCannotBePausedIsKept: that containers have no cgroups is no fault of
// theirs, and is asked once.
func TestRunnerThatCannotBePausedIsKept(t *testing.T) {
	for _, pause := range []runners.PausePolicy{runners.PauseAdaptive, runners.PauseAlways} {
		inBubble(t, runners.Options{Pause: pause, IdleTimeout: time.Hour}, func(r *rig) {
			id := r.use(r.recycled()).RunnerID
			looks := 0
			r.fake.SetHook(func(_ context.Context, op, _ string) error {
				if op == runnertest.OpCPUTime {
					looks++
					return runners.ErrNoCgroup
				}
				return nil
			})
			at(10 * time.Minute)
			r.wantState(id, runners.Idle)
			if looks != 1 {
				t.Errorf("%s: the CPU time was asked for %d times, want once", pause, looks)
			}
			if next := r.use(r.recycled()); next.RunnerID != id || next.WokenFrom == runners.Paused {
				t.Errorf("%s: the next action got %+v, want the runner %s, which was never paused", pause, next, id)
			}
		})
	}
}

func TestRunnerWhoseCPUTimeIsUnknownIsDiscarded(t *testing.T) {
	inBubble(t, runners.Options{}, func(r *rig) {
		id := r.use(r.recycled()).RunnerID
		r.fake.SetHook(failing(runnertest.OpCPUTime))
		at(2 * time.Second)
		r.wantState(id, runners.Removed)
		if next := r.use(r.recycled()); !strings.Contains(next.ColdReason, "its CPU time could not be read: broken on purpose") {
			r.Errorf("next: %+v", next)
		}
	})
}

func TestRunnerThatCannotBePausedIsDiscarded(t *testing.T) {
	inBubble(t, runners.Options{Pause: runners.PauseAlways}, func(r *rig) {
		id := r.use(r.recycled()).RunnerID
		r.fake.SetHook(failing(runnertest.OpFreeze))
		at(6 * time.Second)
		r.wantState(id, runners.Removed)
	})
}

func TestTakerWaitsForAFreezeUnderWay(t *testing.T) {
	inBubble(t, runners.Options{Pause: runners.PauseAlways}, func(r *rig) {
		id := r.use(r.recycled()).RunnerID
		release := make(chan struct{})
		r.fake.SetHook(hanging(runnertest.OpFreeze, release))
		at(5 * time.Second)
		r.wantState(id, runners.Idle)
		got := make(chan runners.LeaseInfo)
		go func() { got <- r.use(r.recycled()) }()
		at(3 * time.Second)
		select {
		case info := <-got:
			t.Errorf("took %+v, which is being frozen", info)
		default:
		}
		close(release)
		if info := <-got; info.RunnerID != id || info.WokenFrom != runners.Paused {
			t.Errorf("got %+v, want %s woken", info, id)
		}
		r.wantState(id, runners.Idle)
	})
}

func TestHangingFreezeHoldsATakerUpForFiveSeconds(t *testing.T) {
	inBubble(t, runners.Options{Pause: runners.PauseAlways}, func(r *rig) {
		id := r.use(r.recycled()).RunnerID
		release := make(chan struct{})
		r.fake.SetHook(hanging(runnertest.OpFreeze, release))
		at(5 * time.Second)
		start := time.Now()
		next := r.use(r.recycled())
		if next.RunnerID == id || time.Since(start) != 5*time.Second || !strings.Contains(next.ColdReason, "it could not be woken: it took more than 5s") {
			t.Errorf("after %v: %+v", time.Since(start), next)
		}
		close(release)
	})
}

func TestRunnerThatCannotBeWokenIsDropped(t *testing.T) {
	t.Run("the next is taken", func(t *testing.T) {
		inBubble(t, runners.Options{Pause: runners.PauseAlways}, func(r *rig) {
			old, bad := r.acquire(r.recycled()), r.acquire(r.recycled())
			old.Release()
			at(time.Second)
			bad.Release()
			at(6 * time.Second)
			r.fake.SetHook(func(_ context.Context, op, id string) error {
				if op == runnertest.OpThaw && id == bad.Info().RunnerID {
					return errBroken
				}
				return nil
			})
			if got := r.use(r.recycled()); got.RunnerID != old.Info().RunnerID {
				t.Errorf("got %+v", got)
			}
			r.wantState(bad.Info().RunnerID, runners.Removed)
		})
	})
	t.Run("after five a new one is started", func(t *testing.T) {
		inBubble(t, runners.Options{Pause: runners.PauseAlways, MaxRunners: 8}, func(r *rig) {
			var leases []*runners.Lease
			for range 7 {
				leases = append(leases, r.acquire(r.recycled()))
			}
			for _, l := range leases {
				l.Release()
			}
			at(6 * time.Second)
			r.fake.SetHook(failing(runnertest.OpThaw))
			got := r.acquire(r.recycled())
			if got.Info().Warm || !strings.Contains(got.Info().ColdReason, "busy or starting: 2") {
				t.Errorf("got %+v", got.Info())
			}
			if n := r.fake.Count(runnertest.OpThaw); n != 5 {
				t.Errorf("%d runners were tried", n)
			}
			got.Release()
		})
	})
	t.Run("hanging", func(t *testing.T) {
		inBubble(t, runners.Options{Pause: runners.PauseAlways}, func(r *rig) {
			r.use(r.recycled())
			at(6 * time.Second)
			release := make(chan struct{})
			r.fake.SetHook(hanging(runnertest.OpThaw, release))
			start := time.Now()
			if got := r.use(r.recycled()); got.Warm || time.Since(start) != 5*time.Second {
				t.Errorf("after %v got %+v", time.Since(start), got)
			}
			close(release)
		})
	})
	t.Run("nobody waits any more", func(t *testing.T) {
		inBubble(t, runners.Options{Pause: runners.PauseAlways}, func(r *rig) {
			id := r.use(r.recycled()).RunnerID
			at(6 * time.Second)
			release := make(chan struct{})
			r.fake.SetHook(hanging(runnertest.OpThaw, release))
			ctx, cancel := context.WithTimeout(r.Context(), time.Second)
			defer cancel()
			if _, err := r.pool.Acquire(ctx, r.recycled()); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("acquire: %v", err)
			}
			r.wantState(id, runners.Removed)
			close(release)
		})
	})
}

func TestIdleRunnersExpire(t *testing.T) {
	for _, policy := range []runners.PausePolicy{runners.PauseNever, runners.PauseAlways, runners.PauseAdaptive} {
		t.Run(string(policy), func(t *testing.T) {
			inBubble(t, runners.Options{Pause: policy}, func(r *rig) {
				id := r.use(r.recycled()).RunnerID
				at(14 * time.Minute)
				r.use(r.recycled())
				at(15*time.Minute - 1)
				if s := r.state(id); s != runners.Idle && s != runners.Paused {
					t.Errorf("it is %v before its time", s)
				}
				at(1)
				r.wantState(id, runners.Removed)
				at(time.Minute)
				if next := r.use(r.recycled()); next.ColdReason != id+" was expired 1m0s ago: idle for 15m0s" {
					t.Errorf("next: %+v", next)
				}
			})
		})
	}
}

func TestEvictionCancelsAPendingPause(t *testing.T) {
	inBubble(t, runners.Options{Pause: runners.PauseAlways, MaxRunners: 1}, func(r *rig) {
		release := make(chan struct{})
		r.use(r.recycled("a=1"))
		at(4 * time.Second)
		other := r.acquire(r.recycled("a=2"))
		at(time.Minute)
		if n := r.fake.Count(runnertest.OpFreeze); n != 0 {
			t.Errorf("%d freezes", n)
		}
		other.Release()
		// A freeze under way and the removal do not meet.
		r.fake.SetHook(hanging(runnertest.OpFreeze, release))
		at(5 * time.Second)
		removals := r.fake.Count(runnertest.OpRemove)
		done := make(chan struct{})
		go func() { defer close(done); r.use(r.recycled("a=3")) }()
		synctest.Wait()
		if r.fake.Count(runnertest.OpRemove) != removals {
			t.Error("it is removed while it is being frozen")
		}
		close(release)
		<-done
	})
}
