package runners_test

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hearth-build/hearth/runners"
)

// While memory runs short idle runners are given up one after the other, spares
// first, then the longest idle; busy ones are not, and no spare is started.
func TestPoolShrinksUnderPressure(t *testing.T) {
	var available atomic.Int64
	available.Store(50)
	opts := runners.Options{
		MaxRunners: 10, Spares: 1, Pause: runners.PauseNever,
		Memory: func() (int64, int64, error) { return available.Load(), 1000, nil },
	}
	inBubble(t, opts, func(r *rig) {
		first := r.use(r.recycled("k=1"))
		second := r.use(r.recycled("k=2"))
		busy := r.acquire(r.recycled("k=3"))
		at(time.Minute)
		r.wantSpares(1) // a twentieth is enough
		available.Store(49)
		at(5 * time.Second)
		r.wantSpares(0)
		r.wantState(first.RunnerID, runners.Idle)
		at(5 * time.Second)
		r.wantState(first.RunnerID, runners.Removed)
		r.wantState(second.RunnerID, runners.Idle)
		at(5 * time.Second)
		r.wantState(second.RunnerID, runners.Removed)
		r.wantState(busy.Info().RunnerID, runners.Busy)
		busy.Release()
		if info := r.use(r.recycled("k=1")); !strings.Contains(info.ColdReason, "the machine has only 4.9% of its memory left") {
			t.Errorf("%+v", info)
		}
		r.wantSpares(0)
		available.Store(500)
		at(10 * time.Second)
		r.use(r.recycled("k=4"))
		r.wantSpares(1)
	})
}

// Where nobody can tell, nothing is given up.
func TestPoolWithoutMeasuredMemory(t *testing.T) {
	inBubble(t, runners.Options{Memory: func() (int64, int64, error) { return 0, 0, errors.New("unknown") }}, func(r *rig) {
		info := r.use(r.recycled())
		at(time.Minute)
		if again := r.use(r.recycled()); again.RunnerID != info.RunnerID {
			t.Errorf("%+v", again)
		}
	})
}
