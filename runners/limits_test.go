package runners_test

import (
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/hearth-build/hearth/runners"
	"github.com/hearth-build/hearth/runners/runnertest"
)

// wantNew checks that an action gets another runner than the one before, and why.
func (r *rig) wantNew(before runners.LeaseInfo, why string) runners.LeaseInfo {
	r.Helper()
	after := r.use(r.recycled())
	if after.Warm || after.RunnerID == before.RunnerID || !strings.Contains(after.ColdReason, why) {
		r.Errorf("after %+v: %+v, want a new one since %q", before, after, why)
	}
	return after
}

func TestRunnersEndAfterSomeActions(t *testing.T) {
	inBubble(t, runners.Options{Limits: runners.Limits{Actions: 3}}, func(r *rig) {
		first := r.use(r.recycled())
		for range 2 {
			if again := r.use(r.recycled()); again.RunnerID != first.RunnerID {
				t.Fatalf("%+v", again)
			}
		}
		r.wantState(first.RunnerID, runners.Removed)
		r.wantNew(first, first.RunnerID+" was retired 0s ago: it has run 3 actions (--max-runner-actions)")
	})
}

// What ended is described as it was, with how and why, the latest first.
func TestDeparted(t *testing.T) {
	inBubble(t, runners.Options{Limits: runners.Limits{Actions: 2}}, func(r *rig) {
		if d := r.pool.Departed(); len(d) != 0 {
			t.Errorf("before any has ended: %+v", d)
		}
		r.use(r.recycled())
		at(time.Second)
		kept := r.use(r.recycled())
		at(time.Second)
		once := r.use(runners.Request{Platform: platform(t)})
		at(time.Second)
		gone := r.pool.Departed()
		if len(gone) != 2 {
			t.Fatalf("%+v", gone)
		}
		single, retired := gone[0], gone[1]
		if single.ID != once.RunnerID || single.How != "removed" || single.Why != "recycle-runner is not true" || single.Runs != 1 {
			t.Errorf("of one action: %+v", single)
		}
		if retired.ID != kept.RunnerID || retired.How != "retired" || retired.Runs != 2 || retired.Age != time.Second ||
			!strings.Contains(retired.Why, "2 actions") || !strings.Contains(retired.Key, "host") || retired.ColdReason == "" {
			t.Errorf("of several actions: %+v", retired)
		}
	})
}

func TestRunnersEndWithAge(t *testing.T) {
	inBubble(t, runners.Options{Pause: runners.PauseNever, Limits: runners.Limits{Age: time.Minute}}, func(r *rig) {
		idle := r.use(r.recycled())
		at(59 * time.Second)
		r.wantState(idle.RunnerID, runners.Idle)
		at(time.Second) // also if nobody asks for it
		r.wantState(idle.RunnerID, runners.Removed)
		r.wantNew(idle, "older than 1m0s (--max-runner-age)")

		lease := r.acquire(r.recycled())
		at(2 * time.Minute)
		r.wantState(lease.Info().RunnerID, runners.Busy) // its action goes on
		lease.Release()
		r.wantState(lease.Info().RunnerID, runners.Removed)
	})
}

func TestRunnersEndWhenTheyHoldTooMuch(t *testing.T) {
	limits := runners.Limits{Memory: 100 << 20, Disk: 1 << 30}
	for why, holds := range map[string]runners.Footprint{
		"it holds 101MiB of memory, more than 100MiB (--max-runner-memory)": {Memory: 101 << 20},
		"it holds 2GiB of disk, more than 1GiB (--max-runner-disk)":         {Disk: runners.Drift{Bytes: 2 << 30}},
	} {
		inBubble(t, runners.Options{Pause: runners.PauseNever, Limits: limits}, func(r *rig) {
			id := r.use(r.recycled()).RunnerID
			at(0)
			r.wantState(id, runners.Idle)
			r.fake.SetFootprint(id, holds)
			r.use(r.recycled())
			at(0)
			r.wantState(id, runners.Idle) // it was looked at a moment ago
			at(time.Minute)
			last := r.use(r.recycled())
			at(0)
			r.wantState(id, runners.Removed)
			r.wantNew(last, why)
		})
	}
}

// What an action holds is not its runner's: only what is there while nothing runs
// counts as memory. What is on disk does, when the action has ended.
func TestRunnerIsWeighedWhileAnActionRuns(t *testing.T) {
	inBubble(t, runners.Options{Pause: runners.PauseNever, Limits: runners.Limits{Memory: 1, Disk: 1}}, func(r *rig) {
		release := make(chan struct{})
		r.fake.SetHook(hanging(runnertest.OpMemory, release))
		id := r.use(r.recycled()).RunnerID
		lease := r.acquire(r.recycled())
		r.fake.SetFootprint(id, runners.Footprint{Memory: 2})
		close(release)
		at(0)
		lease.Release()
		r.wantState(id, runners.Idle)

		at(time.Minute)
		r.fake.SetFootprint(id, runners.Footprint{})
		release = make(chan struct{})
		r.fake.SetHook(hanging(runnertest.OpDrift, release))
		r.use(r.recycled())
		lease = r.acquire(r.recycled())
		r.fake.SetFootprint(id, runners.Footprint{Disk: runners.Drift{Bytes: 2}})
		close(release)
		at(0)
		r.wantState(id, runners.Busy)
		lease.Release()
		r.wantState(id, runners.Removed)
	})
}

// A runner that cannot be weighed is as good as before.
func TestRunnerThatCannotBeWeighedIsKept(t *testing.T) {
	inBubble(t, runners.Options{Pause: runners.PauseNever, Limits: runners.Limits{Memory: 1}}, func(r *rig) {
		r.fake.SetHook(failing(runnertest.OpMemory))
		id := r.use(r.recycled()).RunnerID
		at(time.Minute)
		if again := r.use(r.recycled()); again.RunnerID != id {
			t.Errorf("%+v", again)
		}
	})
}

func TestDrain(t *testing.T) {
	inBubble(t, runners.Options{}, func(r *rig) {
		idle := r.use(r.recycled("k=idle"))
		lease := r.acquire(r.recycled())
		busy := lease.Info()
		for _, id := range []string{idle.RunnerID, busy.RunnerID} {
			if err := r.pool.Drain(id); err != nil {
				t.Error(err)
			}
		}
		r.wantState(idle.RunnerID, runners.Removed)
		r.wantState(busy.RunnerID, runners.Busy)
		r.run(lease, "true")
		lease.Release()
		r.wantState(busy.RunnerID, runners.Removed)
		r.wantNew(busy, "it was drained by hand")
		if err := r.pool.Drain(idle.RunnerID); !errors.Is(err, runners.ErrNoRunner) {
			t.Errorf("one that is gone: %v", err)
		}
	})
}

func TestRemoveByHand(t *testing.T) {
	inBubble(t, runners.Options{}, func(r *rig) {
		lease := r.acquire(r.recycled())
		busy := lease.Info()
		running := make(chan error, 1)
		go func() {
			_, err := lease.Run(r.Context(), runners.Command{Args: []string{"sleep", "1000"}}, io.Discard, io.Discard)
			running <- err
		}()
		at(time.Second)
		if err := r.pool.Remove(busy.RunnerID); err != nil {
			t.Fatal(err)
		}
		if err := <-running; !errors.Is(err, runners.ErrLost) {
			t.Errorf("its action: %v", err)
		}
		lease.Release()
		r.wantState(busy.RunnerID, runners.Removed)
		r.wantNew(busy, "it was removed by hand")
		if err := r.pool.Remove("none"); !errors.Is(err, runners.ErrNoRunner) {
			t.Errorf("one that never was: %v", err)
		}
	})
}

// What is being started can be drained, and not removed: that is no reason to say that
// it is not there.
func TestRunnerThatStarts(t *testing.T) {
	inBubble(t, runners.Options{}, func(r *rig) {
		release := make(chan struct{})
		r.fake.SetHook(hanging(runnertest.OpStart, release))
		leases := make(chan *runners.Lease)
		go func() { leases <- r.acquire(r.recycled()) }()
		at(0)
		id := r.pool.Snapshot()[0].ID
		if err := r.pool.Remove(id); !errors.Is(err, runners.ErrStarting) {
			t.Errorf("remove: %v", err)
		}
		if err := r.pool.Drain(id); err != nil {
			t.Errorf("drain: %v", err)
		}
		close(release)
		lease := <-leases
		r.run(lease, "true")
		lease.Release()
		r.wantState(id, runners.Removed)
	})
}

// An action says that what it did there should not be inherited.
func TestRetire(t *testing.T) {
	inBubble(t, runners.Options{}, func(r *rig) {
		lease := r.acquire(r.recycled())
		lease.Retire("its last action asked for it")
		lease.Release()
		r.wantState(lease.Info().RunnerID, runners.Removed)
		r.wantNew(lease.Info(), "was retired 0s ago: its last action asked for it")
	})
}
