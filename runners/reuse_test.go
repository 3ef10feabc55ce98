package runners_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hearth-build/hearth/execserver/execpb"
	"github.com/hearth-build/hearth/runners"
	"github.com/hearth-build/hearth/runners/runnertest"
)

func TestRecycledRunnerIsReused(t *testing.T) {
	inBubble(t, runners.Options{}, func(r *rig) {
		first := r.use(r.recycled())
		if first.Warm || first.Runs != 1 || first.WokenFrom != runners.Starting || first.ColdReason != "first action of this key" {
			r.Errorf("first: %+v", first)
		}
		second := r.use(r.recycled())
		if !second.Warm || second.Runs != 2 || second.WokenFrom != runners.Idle || second.ColdReason != "" {
			r.Errorf("second: %+v", second)
		}
		if first.RunnerID != second.RunnerID {
			r.Errorf("runners %s and %s", first.RunnerID, second.RunnerID)
		}
	})
}

func TestRunnerWithoutRecyclingIsFreshAndRemoved(t *testing.T) {
	inBubble(t, runners.Options{}, func(r *rig) {
		req := runners.Request{Platform: platform(r)}
		first := r.use(req)
		r.wantState(first.RunnerID, runners.Removed)
		second := r.use(req)
		if second.RunnerID == first.RunnerID || second.Warm || second.ColdReason != "not recycled: recycle-runner is not true" {
			r.Errorf("second: %+v", second)
		}
	})
}

func TestNewestIdleRunnerIsTaken(t *testing.T) {
	inBubble(t, runners.Options{}, func(r *rig) {
		a, b, c := r.acquire(r.recycled()), r.acquire(r.recycled()), r.acquire(r.recycled())
		if why := c.Info().ColdReason; why != "no runner of this key is idle (busy or starting: 2)" {
			r.Errorf("cold reason %q", why)
		}
		b.Release()
		at(time.Second)
		a.Release()
		at(time.Second)
		c.Release()
		for i, want := range []*runners.Lease{c, a, b} {
			if got := r.acquire(r.recycled()); got.Info().RunnerID != want.Info().RunnerID {
				r.Errorf("lease %d is of %s, want %s", i, got.Info().RunnerID, want.Info().RunnerID)
			} else {
				defer got.Release()
			}
		}
	})
}

func TestRunnersAreNotSharedBetweenKeys(t *testing.T) {
	base := func(r *rig) runners.Request { return r.recycled("cpu=x") }
	cases := map[string]struct {
		other func(r *rig) runners.Request
		want  string // of the cold reason
	}{
		"tenant":      {func(r *rig) runners.Request { q := base(r); q.Tenant = "u"; return q }, "first action of this key"},
		"instance":    {func(r *rig) runners.Request { q := base(r); q.Instance = "i"; return q }, "differs in instance name: i vs unset"},
		"property":    {func(r *rig) runners.Request { return r.recycled("cpu=y") }, "differs in cpu: y vs x"},
		"no property": {func(r *rig) runners.Request { return r.recycled() }, "differs in cpu: unset vs x"},
		"image":       {func(r *rig) runners.Request { return r.recycled("cpu=x", "container-image=docker://b") }, "differs in container-image: docker://b vs host"},
		"recycling key": {
			func(r *rig) runners.Request { return r.recycled("cpu=x", "runner-recycling-key=k") },
			"differs in runner-recycling-key: k vs unset",
		},
		"password": {
			func(r *rig) runners.Request { return r.recycled("cpu=x", "container-registry-password=hunter2") },
			"differs in container-registry-password",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			inBubble(t, runners.Options{}, func(r *rig) {
				first := r.use(base(r))
				second := r.use(c.other(r))
				if second.RunnerID == first.RunnerID || second.Warm || !strings.Contains(second.ColdReason, c.want) {
					r.Errorf("after %+v: %+v, want the reason %q", first, second, c.want)
				}
				if strings.Contains(second.ColdReason, "hunter2") {
					r.Error("the cold reason tells a password")
				}
				if third := r.use(base(r)); third.RunnerID != first.RunnerID {
					r.Errorf("the first key got %+v", third)
				}
			})
		})
	}
}

func TestMovedImageTagGetsANewRunner(t *testing.T) {
	inBubble(t, runners.Options{ImageTTL: time.Minute}, func(r *rig) {
		req := r.recycled("container-image=docker://a:latest")
		first := r.use(req)
		r.fake.SetImageID("a:latest", "other")
		if same := r.use(req); same.RunnerID != first.RunnerID || r.fake.Count(runnertest.OpResolve) != 1 {
			r.Errorf("within the TTL: %+v after %d resolutions", same, r.fake.Count(runnertest.OpResolve))
		}
		at(time.Minute)
		moved := r.use(req)
		if moved.RunnerID == first.RunnerID || !strings.Contains(moved.ColdReason, "image that the name stands for: other vs id-of-a:latest") {
			r.Errorf("after the TTL: %+v", moved)
		}
	})
}

func TestImageIsResolvedOnceForAllWhoWait(t *testing.T) {
	inBubble(t, runners.Options{MaxRunners: 10}, func(r *rig) {
		release := make(chan struct{})
		r.fake.SetHook(hanging(runnertest.OpResolve, release))
		impatient, cancel := context.WithCancel(r.Context())
		errs := make(chan error, 1)
		go func() {
			_, err := r.pool.Acquire(impatient, r.recycled())
			errs <- err
		}()
		leases := make(chan *runners.Lease, 3)
		for range cap(leases) {
			go func() { leases <- r.acquire(r.recycled()) }()
		}
		synctest.Wait()
		cancel()
		if err := <-errs; !errors.Is(err, context.Canceled) {
			r.Errorf("who gave up: %v", err)
		}
		close(release)
		for range cap(leases) {
			(<-leases).Release()
		}
		if n := r.fake.Count(runnertest.OpResolve); n != 1 {
			r.Errorf("%d resolutions", n)
		}
	})
}

func TestUncleanRunnerIsDiscarded(t *testing.T) {
	inTime := func(r *rig) context.Context {
		ctx, cancel := context.WithTimeout(r.Context(), time.Second)
		r.Cleanup(cancel)
		return ctx
	}
	cases := map[string]struct {
		cmd     runners.Command
		stdout  io.Writer
		ctx     func(*rig) context.Context
		hook    runnertest.Hook
		discard string
		wantErr error
		want    string
	}{
		"timeout":   {cmd: runners.Command{Args: []string{"sleep", "9"}, Timeout: time.Second}, want: "its last action timed out"},
		"cancelled": {cmd: runners.Command{Args: []string{"sleep", "9"}}, ctx: inTime, wantErr: context.DeadlineExceeded, want: "its last action was cancelled"},
		"broken":    {hook: failing(runnertest.OpRun), wantErr: runners.ErrLost, want: "it failed its last action"},
		"output":    {cmd: runners.Command{Args: []string{"echo", "x"}}, stdout: brokenWriter{}, wantErr: errBroken, want: "could not be kept"},
		"discard":   {discard: "I do not like it", want: "I do not like it"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			inBubble(t, runners.Options{}, func(r *rig) {
				lease := r.acquire(r.recycled())
				ctx := r.Context()
				if c.ctx != nil {
					ctx = c.ctx(r)
				}
				r.fake.SetHook(c.hook)
				if c.cmd.Args == nil {
					c.cmd.Args = []string{"true"}
				}
				if c.stdout == nil {
					c.stdout = io.Discard
				}
				_, err := lease.Run(ctx, c.cmd, c.stdout, io.Discard)
				if !errors.Is(err, c.wantErr) || (c.wantErr == errBroken && errors.Is(err, runners.ErrLost)) {
					r.Errorf("run: %v, want %v", err, c.wantErr)
				}
				r.fake.SetHook(nil)
				if c.discard != "" {
					lease.Discard(c.discard)
				}
				lease.Release()
				r.wantState(lease.Info().RunnerID, runners.Removed)
				at(3 * time.Second)
				want := lease.Info().RunnerID + " was discarded 3s ago: "
				if next := r.use(r.recycled()); next.Warm || !strings.HasPrefix(next.ColdReason, want) || !strings.Contains(next.ColdReason, c.want) {
					r.Errorf("next: %+v, want the reason %s%s", next, want, c.want)
				}
			})
		})
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errBroken }

func TestCommandsOwnMistakeKeepsTheRunner(t *testing.T) {
	inBubble(t, runners.Options{}, func(r *rig) {
		lease := r.acquire(r.recycled())
		_, err := lease.Run(r.Context(), runners.Command{Args: []string{"nonsense"}}, io.Discard, io.Discard)
		var start *runners.StartError
		if !errors.As(err, &start) || start.Fault() || errors.Is(err, runners.ErrLost) {
			r.Errorf("run: %v", err)
		}
		lease.Release()
		if next := r.use(r.recycled()); !next.Warm {
			r.Errorf("next: %+v", next)
		}
		r.fake.SetProgram(func(context.Context, runnertest.Process) (runners.Result, error) {
			return runners.Result{}, &runners.StartError{Reason: execpb.NotStarted_FAULT, Message: "cannot fork"}
		})
		lease = r.acquire(r.recycled())
		if _, err := lease.Run(r.Context(), runners.Command{Args: []string{"true"}}, io.Discard, io.Discard); !errors.Is(err, runners.ErrLost) {
			r.Errorf("a fault of the runner: %v", err)
		}
		lease.Release()
		r.wantState(lease.Info().RunnerID, runners.Removed)
	})
}

func TestRunPassesResultAndOutput(t *testing.T) {
	inBubble(t, runners.Options{}, func(r *rig) {
		lease := r.acquire(r.recycled("container-image=docker://a"))
		defer lease.Release()
		var stdout bytes.Buffer
		res, err := lease.Run(r.Context(), runners.Command{Args: []string{"echo", "warm", "and", "dry"}}, &stdout, io.Discard)
		if err != nil || res.ExitCode != 0 || stdout.String() != "warm and dry\n" {
			r.Errorf("%+v %v %q", res, err, &stdout)
		}
		if res, err = lease.Run(r.Context(), runners.Command{Args: []string{"false"}}, io.Discard, io.Discard); err != nil || res.ExitCode != 1 {
			r.Errorf("%+v %v", res, err)
		}
		if img := lease.Image(); img.Name != "a" || img.ID != "id-of-a" || len(img.Env) == 0 {
			r.Errorf("image %+v", img)
		}
		if want := r.dir + "/" + lease.Info().RunnerID + "/work"; lease.Dir() != want {
			r.Errorf("dir %s, want %s", lease.Dir(), want)
		}
	})
}

func TestRunnerIsNotUsedAgainWhenMemoryRanOut(t *testing.T) {
	inBubble(t, runners.Options{}, func(r *rig) {
		for _, kills := range []int{0, 1} {
			lease := r.acquire(r.recycled())
			want := runners.Memory{Peak: 2, Limit: 3, Kills: kills}
			r.fake.SetProgram(func(context.Context, runnertest.Process) (runners.Result, error) {
				return runners.Result{Memory: want}, nil
			})
			res, err := lease.Run(r.Context(), runners.Command{Args: []string{"true"}}, io.Discard, io.Discard)
			if err != nil || res.Memory != want {
				r.Errorf("%+v %v, want %+v", res, err, want)
			}
			lease.Release()
			state := map[int]runners.State{0: runners.Idle, 1: runners.Removed}[kills]
			r.wantState(lease.Info().RunnerID, state)
		}
	})
}

func TestOnlyTheFirstEndOfALeaseCounts(t *testing.T) {
	inBubble(t, runners.Options{}, func(r *rig) {
		lease := r.acquire(r.recycled())
		lease.Release()
		next := r.acquire(r.recycled())
		lease.Release()
		lease.Discard("too late")
		r.wantState(next.Info().RunnerID, runners.Busy)
		next.Release()
	})
}

func TestErrorsOfAcquire(t *testing.T) {
	imageGone := func(_ context.Context, op, _ string) error {
		if op == runnertest.OpStart {
			return runners.ErrImage
		}
		return nil
	}
	cases := map[string]struct {
		hook runnertest.Hook
		want error
	}{
		"resolve": {failing(runnertest.OpResolve), runners.ErrLost},
		"start":   {failing(runnertest.OpStart), runners.ErrLost},
		"image":   {imageGone, runners.ErrImage},
		"engine": {func(context.Context, string, string) error {
			return runners.ErrBackend
		}, runners.ErrBackend},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			inBubble(t, runners.Options{MaxRunners: 1}, func(r *rig) {
				r.fake.SetHook(c.hook)
				if _, err := r.pool.Acquire(r.Context(), r.recycled()); !errors.Is(err, c.want) {
					r.Errorf("acquire: %v, want %v", err, c.want)
				}
				r.fake.SetHook(nil)
				r.use(r.recycled()) // neither room nor an image was lost
			})
		})
	}
	t.Run("image that was there", func(t *testing.T) {
		inBubble(t, runners.Options{}, func(r *rig) {
			r.acquire(r.recycled()).Discard("test")
			r.fake.SetHook(imageGone)
			if _, err := r.pool.Acquire(r.Context(), r.recycled()); !errors.Is(err, runners.ErrLost) || errors.Is(err, runners.ErrImage) {
				r.Errorf("acquire: %v, want ErrLost: the image must be looked for again", err)
			}
		})
	})
	t.Run("no platform", func(t *testing.T) {
		inBubble(t, runners.Options{}, func(r *rig) {
			if _, err := r.pool.Acquire(r.Context(), runners.Request{}); !errors.Is(err, runners.ErrPlatform) {
				r.Errorf("acquire: %v", err)
			}
		})
	})
	t.Run("context", func(t *testing.T) {
		inBubble(t, runners.Options{}, func(r *rig) {
			why := errors.New("client is gone")
			ctx, cancel := context.WithCancelCause(r.Context())
			cancel(why)
			if _, err := r.pool.Acquire(ctx, r.recycled()); !errors.Is(err, why) {
				r.Errorf("acquire: %v", err)
			}
		})
	})
}

// TestRunnerThatHoldsMostIsTaken: of runners of one key the one that holds most of what
// the action needs, and of equal ones the last that was used.
func TestRunnerThatHoldsMostIsTaken(t *testing.T) {
	inBubble(t, runners.Options{}, func(r *rig) {
		var leases []*runners.Lease
		for _, holds := range []int{2, 3, 3, 1} {
			lease := r.acquire(r.recycled())
			*lease.Belongings() = holds
			leases = append(leases, lease)
		}
		for _, lease := range leases {
			lease.Release()
		}
		asking := func(holds func(any) int) runners.Request {
			req := r.recycled()
			req.Holds = holds
			return req
		}
		most := func(belongings any) int { return belongings.(int) }
		least := func(belongings any) int { return -belongings.(int) }
		for _, step := range []struct {
			holds func(any) int
			want  int
		}{{most, 2}, {least, 3}, {nil, 3}, {func(any) int { return 0 }, 3}, {most, 2}} {
			if got := r.use(asking(step.holds)).RunnerID; got != leases[step.want].Info().RunnerID {
				t.Errorf("took %s, want the %d. of them, %s", got, step.want+1, leases[step.want].Info().RunnerID)
			}
		}
	})
}
