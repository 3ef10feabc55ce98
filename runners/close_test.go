package runners_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hearth-build/hearth/runners"
	"github.com/hearth-build/hearth/runners/runnertest"
)

// closing calls Close with a deadline in the background.
func (r *rig) closing(deadline time.Duration) <-chan error {
	done := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), deadline)
		defer cancel()
		done <- r.pool.Close(ctx)
	}()
	synctest.Wait()
	return done
}

func TestCloseRemovesIdleAndPausedAndWaitsForBusy(t *testing.T) {
	inBubble(t, runners.Options{Pause: runners.PauseAlways}, func(r *rig) {
		r.use(r.recycled("k=paused"))
		at(6 * time.Second)
		r.use(r.recycled("k=idle"))
		busy := r.acquire(r.recycled("k=busy"))
		done := r.closing(time.Minute)
		if live := r.fake.Live(); len(live) != 1 || live[0] != busy.Info().RunnerID {
			t.Errorf("live: %v", live)
		}
		if _, err := r.pool.Acquire(r.Context(), r.recycled()); !errors.Is(err, runners.ErrClosed) {
			t.Errorf("acquire: %v", err)
		}
		r.run(busy, "true")
		at(10 * time.Second)
		select {
		case err := <-done:
			t.Errorf("closed, with a busy runner: %v", err)
		default:
		}
		busy.Release()
		if err := <-done; err != nil {
			t.Errorf("close: %v", err)
		}
		r.nothingLeft()
	})
}

func TestCloseDoesNotWaitForLeasesForEver(t *testing.T) {
	inBubble(t, runners.Options{}, func(r *rig) {
		busy := r.acquire(r.recycled())
		errs := make(chan error)
		go func() {
			_, err := busy.Run(r.Context(), runners.Command{Args: []string{"sleep", "3600"}}, io.Discard, io.Discard)
			errs <- err
		}()
		start := time.Now()
		done := r.closing(20 * time.Second)
		if err := <-errs; !errors.Is(err, runners.ErrClosed) || time.Since(start) != 20*time.Second {
			t.Errorf("run, after %v: %v", time.Since(start), err)
		}
		if err := <-done; err != nil {
			t.Errorf("close: %v", err)
		}
		busy.Release() // of what is gone
		r.nothingLeft()
	})
}

func TestCloseEndsWaiting(t *testing.T) {
	for name, hook := range map[string]string{"for room": "", "for an image": runnertest.OpResolve, "for a start": runnertest.OpStart} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, runners.Options{MaxRunners: 1}, func(r *rig) {
				var busy *runners.Lease
				if hook == "" {
					busy = r.acquire(r.recycled())
				} else {
					r.fake.SetHook(func(ctx context.Context, op, _ string) error {
						if op == hook {
							<-ctx.Done()
							return ctx.Err()
						}
						return nil
					})
				}
				errs := make(chan error)
				go func() {
					_, err := r.pool.Acquire(r.Context(), r.recycled())
					errs <- err
				}()
				synctest.Wait()
				done := r.closing(time.Minute)
				if err := <-errs; !errors.Is(err, runners.ErrClosed) {
					t.Errorf("acquire: %v", err)
				}
				if busy != nil {
					busy.Release()
				}
				if err := <-done; err != nil {
					t.Errorf("close: %v", err)
				}
			})
		})
	}
}

func TestCloseReturnsWhileTheEngineHangs(t *testing.T) {
	for _, op := range []string{runnertest.OpResolve, runnertest.OpStart, runnertest.OpFreeze, runnertest.OpThaw, runnertest.OpCPUTime, runnertest.OpRemove} {
		t.Run(op, func(t *testing.T) {
			policy := runners.PauseAlways
			if op == runnertest.OpCPUTime {
				policy = runners.PauseAdaptive
			}
			inBubble(t, runners.Options{Pause: policy}, func(r *rig) {
				release := make(chan struct{})
				if op != runnertest.OpResolve && op != runnertest.OpStart {
					r.use(r.recycled())
				}
				if op == runnertest.OpThaw {
					at(6 * time.Second)
				}
				r.fake.SetHook(hanging(op, release))
				gaveUp := make(chan struct{})
				go func() { // hangs in resolve, start and thaw
					defer close(gaveUp)
					if lease, err := r.pool.Acquire(r.Context(), r.recycled()); err == nil {
						lease.Release()
					}
				}()
				at(5 * time.Second)
				start := time.Now()
				err := <-r.closing(20 * time.Second)
				if took := time.Since(start); took > 35*time.Second {
					t.Errorf("close took %v", took)
				}
				if err == nil || !strings.Contains(err.Error(), "the next start sweeps what is left") {
					t.Errorf("close: %v", err)
				}
				close(release)
				<-gaveUp
				if err := <-r.closing(time.Minute); err != nil {
					t.Errorf("close, when the engine works again: %v", err)
				}
				r.nothingLeft()
			})
		})
	}
}

func TestCloseTellsWhatCannotBeRemoved(t *testing.T) {
	inBubble(t, runners.Options{}, func(r *rig) {
		id := r.use(r.recycled()).RunnerID
		r.fake.SetHook(failing(runnertest.OpRemove))
		err := <-r.closing(20 * time.Second)
		if !errors.Is(err, errBroken) || !strings.Contains(err.Error(), id) {
			t.Errorf("close: %v", err)
		}
		// What the next start does:
		r.fake = r.fake.Restarted()
		if n, err := r.fake.Sweep(r.Context()); err != nil || n != 1 {
			t.Errorf("sweep: %d %v", n, err)
		}
		r.pool, err = runners.NewPool(r.fake, runners.Options{Dir: r.dir})
		if err != nil {
			t.Fatal(err)
		}
	})
}

func TestOptionsNameEveryBadField(t *testing.T) {
	_, err := runners.NewPool(runnertest.NewFake(), runners.Options{
		Dir: "relative", MaxRunners: -1, IdleTimeout: -1, Pause: "sometimes", PauseDelay: -2, ImageTTL: -1,
	})
	if err == nil {
		t.Fatal("no error")
	}
	for _, field := range []string{"Dir", "MaxRunners", "IdleTimeout", "Pause is", "PauseDelay", "ImageTTL"} {
		if !strings.Contains(err.Error(), field) {
			t.Errorf("%v does not name %s", err, field)
		}
	}
}
