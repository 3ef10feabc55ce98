package execution_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hearth-build/hearth/reapi/execution"
	"github.com/hearth-build/hearth/runners"
)

// Room is kept for whoever has it, and waits for its turn like an action. What comes
// with room of its own is admitted at once, shares it with nobody, and is in the
// context that its Assignment makes.
func TestRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type key struct{}
		var ran, within atomic.Int32
		b := newBench(t, 2, execution.SchedulerOptions{}, func(ctx context.Context, task *execution.Task, _ execution.Report) *execution.Outcome {
			ran.Add(1)
			if ctx.Value(key{}) != nil {
				within.Add(1)
			}
			time.Sleep(time.Minute)
			return exited(0)
		})
		defer b.close()
		begin := time.Now()
		b.submit(b.request(salted(1)))
		synctest.Wait()
		large := execution.RoomRequest{Estimates: runners.Estimates{MilliCPU: 2000}, Name: "large"}
		room, err := b.Reserve(t.Context(), large)
		if err != nil || time.Since(begin) != time.Minute {
			t.Fatalf("%v after %v, want room when the action has ended", err, time.Since(begin))
		}
		waits := b.submit(b.request(salted(2)))
		synctest.Wait()
		roomy := b.request(salted(3))
		roomy.Assigned = &execution.Assignment{Room: room, Context: func(ctx context.Context) context.Context { return context.WithValue(ctx, key{}, true) }}
		first, second := b.submit(roomy), b.submit(roomy)
		synctest.Wait()
		if ran.Load() != 3 || within.Load() != 2 || waits.State().Step != execution.StepQueued {
			t.Errorf("%d ran (%d within), and %v is what waits", ran.Load(), within.Load(), waits.State().Step)
		}
		final(t, first)
		final(t, second)
		if ran.Load() != 3 {
			t.Errorf("%d ran before the room was released", ran.Load())
		}
		room.Release()
		room.Release() // which does nothing
		final(t, waits)
		if load := b.Load(); load.Busy != 0 || ran.Load() != 4 {
			t.Errorf("%d ran, and in the end %+v", ran.Load(), load)
		}
	})
}

// Nobody waits for room that will never be there, or longer than wanted.
func TestRoomThatIsNotToBeHad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 1, execution.SchedulerOptions{}, func(context.Context, *execution.Task, execution.Report) *execution.Outcome { return exited(0) })
		if _, err := b.Reserve(t.Context(), execution.RoomRequest{Estimates: runners.Estimates{MilliCPU: 1001}}); !errors.Is(err, runners.ErrPlatform) {
			t.Errorf("more than there is: %v", err)
		}
		room, err := b.Reserve(t.Context(), execution.RoomRequest{})
		if err != nil {
			t.Fatal(err)
		}
		why := errors.New("the test says so")
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, why)
		defer cancel()
		if _, err := b.Reserve(ctx, execution.RoomRequest{Tenant: "t"}); !errors.Is(err, why) {
			t.Errorf("given up: %v", err)
		}
		ended := make(chan error, 1)
		go func() { // ends with the scheduler
			_, err := b.Reserve(t.Context(), execution.RoomRequest{})
			ended <- err
		}()
		synctest.Wait()
		if load := b.Load(); load.Queued != 1 || load.Running != 1 {
			t.Errorf("one waits for room: %+v", load)
		}
		b.close()
		room.Release()
		if err := <-ended; !errors.Is(err, execution.ErrDraining) {
			t.Errorf("when the scheduler ends: %v", err)
		}
	})
}
