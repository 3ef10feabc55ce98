package runners_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hearth-build/hearth/runners"
	"github.com/hearth-build/hearth/runners/runnertest"
)

func TestLongestIdleRunnerIsEvicted(t *testing.T) {
	inBubble(t, runners.Options{MaxRunners: 3}, func(r *rig) {
		busy := r.acquire(r.recycled("a=0"))
		oldest := r.use(r.recycled("a=1"))
		at(time.Second)
		newest := r.use(r.recycled("a=2"))
		at(time.Second)
		r.use(r.recycled("a=3"))
		r.wantState(oldest.RunnerID, runners.Removed)
		r.wantState(newest.RunnerID, runners.Idle)
		r.wantState(busy.Info().RunnerID, runners.Busy)
		at(40 * time.Second)
		if again := r.use(r.recycled("a=1")); again.ColdReason != oldest.RunnerID+" was evicted 40s ago: max-runners is 3" {
			t.Errorf("again: %+v", again)
		}
		busy.Release()
	})
}

func TestPausedRunnersAreEvictedToo(t *testing.T) {
	inBubble(t, runners.Options{MaxRunners: 1, Pause: runners.PauseAlways}, func(r *rig) {
		paused := r.use(r.recycled("a=1")).RunnerID
		at(10 * time.Second)
		r.wantState(paused, runners.Paused)
		r.use(r.recycled("a=2"))
		r.wantState(paused, runners.Removed)
	})
}

// queue starts an Acquire that must wait, after all that wait already.
func (r *rig) queue(ctx context.Context, req runners.Request) <-chan *runners.Lease {
	got := make(chan *runners.Lease, 1)
	go func() {
		lease, err := r.pool.Acquire(ctx, req)
		if err != nil {
			close(got)
			return
		}
		got <- lease
	}()
	synctest.Wait()
	return got
}

func none(t *testing.T, when string, queues ...<-chan *runners.Lease) {
	t.Helper()
	synctest.Wait()
	for i, q := range queues {
		select {
		case l := <-q:
			t.Errorf("%s: waiter %d got %+v", when, i, l)
		default:
		}
	}
}

func TestWaitersAreServedInTurn(t *testing.T) {
	inBubble(t, runners.Options{MaxRunners: 2}, func(r *rig) {
		a, b := r.acquire(r.recycled("k=a")), r.acquire(r.recycled("k=b"))
		first := r.queue(r.Context(), r.recycled("k=c"))
		second := r.queue(r.Context(), r.recycled("k=b"))
		third := r.queue(r.Context(), r.recycled("k=b"))
		none(t, "all busy", first, second, third)
		a.Release() // of no use to the first: it gets the room
		c := <-first
		if c == nil || c.Info().Warm {
			t.Fatalf("first: %+v", c)
		}
		none(t, "one was released", second, third)
		b.Release() // just what the second wants
		warm := <-second
		if i := warm.Info(); i.RunnerID != b.Info().RunnerID || !i.Warm || i.Runs != 2 {
			t.Errorf("second: %+v", i)
		}
		none(t, "two were released", third)
		warm.Discard("test")
		if l := <-third; l == nil || l.Info().Warm {
			t.Errorf("third: %+v", l)
		} else {
			l.Release()
		}
		c.Release()
	})
}

func TestRoomIsGivenOnlyWhenARunnerIsGone(t *testing.T) {
	inBubble(t, runners.Options{MaxRunners: 1}, func(r *rig) {
		release := make(chan struct{})
		r.fake.SetHook(hanging(runnertest.OpRemove, release))
		r.acquire(runners.Request{Platform: platform(r)}).Release()
		next := r.queue(r.Context(), r.recycled())
		at(30 * time.Second)
		none(t, "the old one is being removed", next)
		close(release)
		(<-next).Release()
	})
}

func TestWaiterCanGiveUp(t *testing.T) {
	inBubble(t, runners.Options{MaxRunners: 1}, func(r *rig) {
		busy := r.acquire(r.recycled())
		why := errors.New("client is gone")
		ctx, cancel := context.WithCancelCause(r.Context())
		errs := make(chan error)
		go func() {
			_, err := r.pool.Acquire(ctx, r.recycled())
			errs <- err
		}()
		synctest.Wait()
		next := r.queue(r.Context(), r.recycled())
		cancel(why)
		if err := <-errs; !errors.Is(err, why) {
			t.Errorf("who gave up: %v", err)
		}
		busy.Release()
		(<-next).Release()
	})
}

func TestRunnerThatCannotBeRemovedIsTriedAgain(t *testing.T) {
	inBubble(t, runners.Options{MaxRunners: 1}, func(r *rig) {
		r.fake.SetHook(failing(runnertest.OpRemove))
		r.acquire(r.recycled()).Discard("test")
		next := r.queue(r.Context(), r.recycled())
		at(14 * time.Second) // 1 + 2 + 4 + 8 s between five attempts
		none(t, "it may still be removed", next)
		at(time.Second)
		lease := <-next // the room is given away all the same
		if len(r.fake.Live()) != 2 {
			t.Errorf("live: %v", r.fake.Live())
		}
		r.fake.SetHook(nil)
		at(time.Minute)
		if live := r.fake.Live(); len(live) != 1 || live[0] != lease.Info().RunnerID {
			t.Errorf("live: %v", live)
		}
		lease.Release()
	})
}

func TestSnapshot(t *testing.T) {
	inBubble(t, runners.Options{Pause: runners.PauseAlways, MaxRunners: 20}, func(r *rig) {
		paused := r.use(r.recycled("k=paused")).RunnerID
		since := time.Now()
		at(7 * time.Second)
		r.use(r.recycled("k=idle", "container-registry-password=hunter2"))
		busy := r.acquire(r.recycled("k=busy"))
		var got []string
		for _, i := range r.pool.Snapshot() {
			got = append(got, fmt.Sprintf("%v %v %d %v %v", i.State, i.Key, i.Runs, i.Age, i.IdleSince.IsZero()))
		}
		want := []string{
			"paused tenant=t container-image=host k=paused recycle-runner=true image=id-of-host 1 7s false",
			"idle tenant=t container-image=host container-registry-password=(hidden) k=idle recycle-runner=true image=id-of-host 1 0s false",
			"busy tenant=t container-image=host k=busy recycle-runner=true image=id-of-host 1 0s true",
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("got\n%q, want\n%q", got, want)
		}
		if s := r.pool.Snapshot(); s[0].ID != paused || !s[0].IdleSince.Equal(since) {
			t.Errorf("first: %+v", s[0])
		}
		busy.Release()
	})
}

// TestGrantToOneWhoGivesUp: the runner, or the room for one, comes at the very
// moment at which nobody waits for it any more.
func TestGrantToOneWhoGivesUp(t *testing.T) {
	for name, other := range map[string]string{"of a runner": "k=same", "of room": "k=other"} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, runners.Options{MaxRunners: 1}, func(r *rig) {
				for range 30 { // whether the waiter is quicker is up to chance
					busy := r.acquire(r.recycled("k=same"))
					ctx, cancel := context.WithCancel(r.Context())
					got := r.queue(ctx, r.recycled(other))
					cancel()
					busy.Release()
					if lease := <-got; lease != nil {
						lease.Release()
					}
				}
				synctest.Wait()
				for _, info := range r.pool.Snapshot() {
					if info.State != runners.Idle {
						t.Errorf("nobody uses %s, which is %v", info.ID, info.State)
					}
				}
			})
		})
	}
}
