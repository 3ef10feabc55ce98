package runners_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hearth-build/hearth/runners"
	"github.com/hearth-build/hearth/runners/runnertest"
)

// spares counts the runners that have run nothing yet and could.
func (r *rig) spares() (n int) {
	for _, info := range r.pool.Snapshot() {
		if info.Spare && info.State == runners.Idle {
			n++
		}
	}
	return n
}

func (r *rig) wantSpares(want int) {
	r.Helper()
	at(0)
	if n := r.spares(); n != want {
		r.Errorf("after %v: %d spares, want %d", time.Since(epoch), n, want)
	}
}

// slowStarts makes a start of a container take a second.
func (r *rig) slowStarts() {
	r.fake.SetHook(slow(runnertest.OpStart, time.Second))
}

func TestSparesAreReady(t *testing.T) {
	inBubble(t, runners.Options{Spares: 2, MaxRunners: 20}, func(r *rig) {
		r.slowStarts()
		took := func(req runners.Request) (runners.LeaseInfo, time.Duration) {
			begin := time.Now()
			info := r.use(req)
			return info, time.Since(begin)
		}
		r.wantSpares(0) // nobody has wanted anything yet
		if _, d := took(r.recycled("k=1")); d != time.Second {
			t.Errorf("the first took %v", d)
		}
		at(time.Second)
		r.wantSpares(2)
		// Another key, and one without recycling, of the same image and network.
		info, d := took(r.recycled("k=2"))
		if d != 0 || info.Warm || info.Runs != 1 || !strings.HasSuffix(info.ColdReason, "; a spare was ready") || !strings.Contains(info.ColdReason, "k: 2 vs 1") {
			t.Errorf("it took %v: %+v", d, info)
		}
		fresh := runners.Request{Platform: platform(r)}
		if info, d := took(fresh); d != 0 || info.Warm || !strings.Contains(info.ColdReason, "not recycled") {
			t.Errorf("it took %v: %+v", d, info)
		}
		at(2 * time.Second)
		r.wantSpares(2) // again
		if again := r.use(r.recycled("k=2")); !again.Warm || again.RunnerID != info.RunnerID {
			t.Errorf("the spare is not recycled: %+v", again)
		}
		r.wantSpares(2) // a used runner comes first
		if _, d := took(r.recycled("network=bridge")); d != time.Second {
			t.Errorf("another network took %v", d)
		}
	})
}

// slow is a hook in which one kind of call takes a while.
func slow(op string, d time.Duration) runnertest.Hook {
	return func(_ context.Context, o, _ string) error {
		if o == op {
			<-time.After(d)
		}
		return nil
	}
}

// Spares take no room that somebody waits for, and go first.
func TestSparesGiveWay(t *testing.T) {
	inBubble(t, runners.Options{Spares: 2, MaxRunners: 3}, func(r *rig) {
		kept := r.use(r.recycled("k=1"))
		at(time.Second)
		r.wantSpares(2)
		r.use(r.recycled("k=1", "network=bridge")) // which evicts a spare, though k=1 was idle for longer
		r.wantState(kept.RunnerID, runners.Idle)
		r.wantSpares(1)
		var all []*runners.Lease
		for _, k := range []string{"a", "b", "c"} {
			all = append(all, r.acquire(r.recycled("k="+k)))
		}
		r.wantSpares(0)
		for _, l := range all {
			l.Release()
		}
	})
}

// A spare that is ready while somebody waits is theirs.
func TestSpareForOneWhoWaits(t *testing.T) {
	inBubble(t, runners.Options{Spares: 1, MaxRunners: 2}, func(r *rig) {
		r.slowStarts()
		leases := make(chan *runners.Lease, 2)
		for range 2 {
			go func() { leases <- r.acquire(r.recycled()) }()
			synctest.Wait() // the second finds no room
		}
		both := []*runners.Lease{<-leases, <-leases}
		for _, lease := range both {
			if info := lease.Info(); info.Warm || time.Since(epoch) != time.Second || strings.Contains(info.ColdReason, "spare") != (info.WokenFrom == runners.Idle) {
				t.Errorf("after %v: %+v", time.Since(epoch), info)
			}
			lease.Release()
		}
		if n := r.fake.Count(runnertest.OpStart); n != 2 {
			t.Errorf("%d starts", n)
		}
	})
}

// What nobody has wanted for hours is not kept ready.
func TestSparesExpire(t *testing.T) {
	inBubble(t, runners.Options{Spares: 1, IdleTimeout: time.Minute, Pause: runners.PauseNever}, func(r *rig) {
		r.use(r.recycled())
		at(time.Hour)
		r.wantSpares(1)
		at(time.Hour)
		r.wantSpares(0)
		if n := len(r.pool.Snapshot()); n != 0 {
			t.Errorf("%d runners", n)
		}
	})
}

func TestSpareThatDoesNotStart(t *testing.T) {
	inBubble(t, runners.Options{Spares: 1}, func(r *rig) {
		r.use(r.recycled())
		r.wantSpares(1)
		r.fake.SetHook(failing(runnertest.OpStart))
		lease := r.acquire(r.recycled("k=other")) // has the spare; another cannot be started
		r.wantSpares(0)
		lease.Release()
		r.fake.SetHook(nil)
		r.use(r.recycled("k=third"))
		r.wantSpares(1)
	})
}

// The next pool knows what was wanted, but for images that need a password.
func TestDemandIsRemembered(t *testing.T) {
	file := filepath.Join(t.TempDir(), "demand")
	opts := runners.Options{Spares: 1, DemandFile: file}
	inBubble(t, opts, func(r *rig) {
		r.use(r.recycled("network=bridge"))
		r.use(r.recycled("container-image=docker://secret", "container-registry-username=u", "container-registry-password=p"))
	})
	inBubble(t, opts, func(r *rig) {
		r.wantSpares(1)
		if info := r.use(r.recycled("network=bridge")); !strings.Contains(info.ColdReason, "a spare was ready") {
			t.Errorf("%+v", info)
		}
	})
	text, err := os.ReadFile(file)
	if err != nil || strings.Contains(string(text), "secret") {
		t.Errorf("%s, %v", text, err)
	}
	for _, bad := range []string{"nonsense", `[{"image": "gone", "network": "off", "last": "2000-01-01T00:00:00Z"}]`} {
		if err := os.WriteFile(file, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		withoutImages := func() *runnertest.Fake {
			fake := runnertest.NewFake()
			fake.SetHook(failing(runnertest.OpResolve))
			return fake
		}
		inBubbleWith(t, withoutImages, opts, func(r *rig) {
			r.wantSpares(0)
			r.fake.SetHook(nil)
			r.use(r.recycled())
			r.wantSpares(1)
		})
	}
}
