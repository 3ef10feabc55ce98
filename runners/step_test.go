package runners_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hearth-build/hearth/runners"
	"github.com/hearth-build/hearth/runners/runnertest"
)

// steps records what an Acquire tells, in words.
type steps struct{ told []string }

func (s *steps) of(req runners.Request) runners.Request {
	req.OnStep = func(step runners.Step, why string) { s.told = append(s.told, fmt.Sprintf("%d %s", step, why)) }
	return req
}

// want checks what was told since the last call, by the beginnings of its words.
func (s *steps) want(t *testing.T, what string, beginnings ...string) {
	t.Helper()
	if !slices.EqualFunc(s.told, beginnings, strings.HasPrefix) {
		t.Errorf("%s: told %q, want %q", what, s.told, beginnings)
	}
	s.told = nil
}

// An action learns for what it waits; one that gets a warm runner is told nothing.
func TestAcquireTellsItsSteps(t *testing.T) {
	inBubble(t, runners.Options{MaxRunners: 1, Pause: runners.PauseAlways}, func(r *rig) {
		var s steps
		image := fmt.Sprintf("%d looking for container image debian", runners.StepImage)
		wait := fmt.Sprintf("%d waiting for a runner: there may be 1 (--max-runners)", runners.StepWait)
		start := fmt.Sprintf("%d starting a container: ", runners.StepStart)
		wake := fmt.Sprintf("%d waking runner hearth-", runners.StepWake)
		debian := r.recycled("container-image=docker://debian")

		r.use(s.of(debian))
		s.want(t, "the first action", image, start+"first action of this key")
		r.use(s.of(debian))
		s.want(t, "a warm runner")
		at(10 * time.Second)
		r.use(s.of(debian))
		s.want(t, "a paused runner", wake)

		busy := r.acquire(debian)
		waiting := make(chan struct{})
		go func() {
			defer close(waiting)
			r.use(s.of(r.recycled("container-image=docker://debian", "a=1")))
		}()
		synctest.Wait()
		s.want(t, "all are busy", wait)
		busy.Release()
		<-waiting
		s.want(t, "there is room", start)
	})
}

// Who waits for another's pull is told so, too.
func TestAllWhoWaitForAnImageAreTold(t *testing.T) {
	inBubble(t, runners.Options{}, func(r *rig) {
		pulled := make(chan struct{})
		r.fake.SetHook(hanging(runnertest.OpResolve, pulled))
		var told [3]steps
		done := make(chan struct{})
		for i := range told {
			go func() {
				r.use(told[i].of(r.recycled()))
				done <- struct{}{}
			}()
		}
		synctest.Wait()
		for i := range told {
			told[i].want(t, fmt.Sprint("waiter ", i), fmt.Sprintf("%d looking for container image host", runners.StepImage))
		}
		close(pulled)
		for range told {
			<-done
		}
	})
}

// Who waits for a pull learns how it goes on, and who comes later what was said last.
func TestAllWhoWaitForAPullAreTold(t *testing.T) {
	opts := runners.Options{Dir: t.TempDir()}
	synctest.Test(t, func(t *testing.T) {
		r := &rig{T: t, fake: runnertest.NewFake(), dir: opts.Dir}
		words := make(chan string)
		pool, err := runners.NewPool(&runnertest.PullingFake{Fake: r.fake, Say: func(tell func(string)) {
			for said := range words {
				tell(said)
			}
		}}, opts)
		if err != nil {
			t.Fatal(err)
		}
		r.pool = pool
		const looking, pulling = "0 looking for container image host", "0 pulling container image host: "
		var told [2]steps
		done := make(chan struct{})
		use := func(i int) {
			r.use(told[i].of(r.recycled()))
			done <- struct{}{}
		}
		go use(0)
		words <- "one"
		synctest.Wait()
		told[0].want(t, "at first", looking, pulling+"one")
		go use(1)
		synctest.Wait()
		told[1].want(t, "later", looking, pulling+"one")
		words <- "two"
		synctest.Wait()
		for i := range told {
			told[i].want(t, fmt.Sprint("waiter ", i), pulling+"two")
		}
		close(words)
		<-done
		<-done
		r.close()
	})
}
