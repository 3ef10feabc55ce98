package buildbuddy_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/hearth-build/hearth/reapi/buildbuddy/buildbuddytest"
	"github.com/hearth-build/hearth/runners"
	"github.com/hearth-build/hearth/runners/runnertest"
)

// blocking is a program whose first command waits for its end, or until proceed is
// closed, and tells of both. Two at a time are a failure.
type blocking struct {
	begun, ended, proceed chan struct{}
	runs, running         atomic.Int32
	together              atomic.Bool
}

func newBlocking() *blocking {
	return &blocking{begun: make(chan struct{}), ended: make(chan struct{}), proceed: make(chan struct{})}
}

func (b *blocking) run(ctx context.Context, p runnertest.Process) (runners.Result, error) {
	if p.Args[0] != "block" {
		return runnertest.Builtins(ctx, p)
	}
	if b.running.Add(1) > 1 {
		b.together.Store(true)
	}
	defer b.running.Add(-1)
	if b.runs.Add(1) > 1 {
		return runners.Result{}, nil
	}
	close(b.begun)
	defer close(b.ended)
	select {
	case <-ctx.Done():
		return runners.Result{}, context.Cause(ctx)
	case <-b.proceed:
		return runners.Result{}, nil
	}
}

// check fails the test if the command did not run so many times, one at a time.
func (b *blocking) check(t *testing.T, runs int32) {
	t.Helper()
	if got := b.runs.Load(); got != runs || b.together.Load() {
		t.Errorf("the command ran %d times (two at a time: %v), want %d", got, b.together.Load(), runs)
	}
}

// TestRenews: a lease lasts as long as its task, however short the app makes it.
func TestRenews(t *testing.T) {
	r := newRig(t)
	r.app.Lease = 8 * time.Second // long enough that a slow machine keeps it
	program := newBlocking()
	r.start(setup{program: program.run})
	task := r.run("block")
	closed(t, "the command runs", program.begun)
	var heard atomic.Int32
	r.app.SetFault(func(call, _ string) error {
		if call == buildbuddytest.CallLease {
			heard.Add(1)
		}
		return nil
	})
	await(t, "renewed 3 times, after which the first time is over", func() bool { return heard.Load() >= 3 })
	close(program.proceed)
	if resp := r.wait(task); resp.GetStatus().GetCode() != 0 || task.Expired() > 0 {
		t.Errorf("%v, after %d leases that were over", resp, task.Expired())
	}
	program.check(t, 1)
}

// TestEndsWhenTheLeaseIsLost: an action whose lease the app does not renew is ended
// before another worker begins it.
func TestEndsWhenTheLeaseIsLost(t *testing.T) {
	r := newRig(t)
	r.app.Lease = 6 * time.Second // long enough that a slow machine keeps it until then
	program := newBlocking()
	r.start(setup{program: program.run})
	task := r.run("block")
	closed(t, "the command runs", program.begun)
	r.app.SetDeaf(true)
	closed(t, "the command is over", program.ended)
	r.app.SetDeaf(false)
	r.start(setup{name: "two", program: program.run})
	if resp := r.wait(task); resp.GetStatus().GetCode() != 0 || task.Expired() != 1 {
		t.Errorf("%v, after %d leases that were over", resp, task.Expired())
	}
	program.check(t, 2)
}

// TestEndsWhatNobodyWants: the app says so when a lease is renewed, and the machine
// goes on with the next.
func TestEndsWhatNobodyWants(t *testing.T) {
	r := newRig(t)
	r.app.Lease = 6 * time.Second // long enough that a slow machine keeps it until then
	program := newBlocking()
	r.start(setup{program: program.run})
	task := r.run("block")
	closed(t, "the command runs", program.begun)
	if err := task.Cancel(); err != nil {
		t.Fatal(err)
	}
	closed(t, "the command is over", program.ended)
	r.wait(r.run("true"))
	program.check(t, 1)
}

// TestOutlivesTheApp: an app that is started again does not end what is leased, and is
// told what is there.
func TestOutlivesTheApp(t *testing.T) {
	r := newRig(t)
	program := newBlocking()
	r.start(setup{program: program.run})
	task := r.run("block")
	closed(t, "the command runs", program.begun)
	var heard atomic.Int32
	r.app.SetFault(func(call, _ string) error {
		if call == buildbuddytest.CallLease {
			heard.Add(1)
		}
		return nil
	})
	r.app.BreakStreams()
	await(t, "registered again", func() bool { return len(r.app.Executors()) == 1 })
	await(t, "the lease is taken up again", func() bool { return heard.Load() > 0 })
	close(program.proceed)
	if resp := r.wait(task); resp.GetStatus().GetCode() != 0 || task.Expired() > 0 || len(task.Takers()) != 1 {
		t.Errorf("%v, after %d leases that were over, taken by %q", resp, task.Expired(), task.Takers())
	}
	r.wait(r.run("true"))
	program.check(t, 1)
}

// TestPublishesAgain: an outcome is published until the app has acknowledged it, and
// its action is run once.
func TestPublishesAgain(t *testing.T) {
	for _, call := range []string{buildbuddytest.CallPublish, buildbuddytest.CallAck} {
		t.Run(call, func(t *testing.T) {
			r := newRig(t)
			m := r.start(setup{})
			var failures atomic.Int32
			r.app.SetFault(func(where, _ string) error {
				if where == call && failures.Add(1) <= 3 {
					return errTest
				}
				return nil
			})
			if resp := r.wait(r.run("true")); resp.GetStatus().GetCode() != 0 {
				t.Errorf("%v", resp)
			}
			if n := m.fake.Count(runnertest.OpRun); n != 1 || failures.Load() < 3 {
				t.Errorf("%d commands ran, after %d failures", n, failures.Load())
			}
		})
	}
}

// TestGivesBackWhatCannotBePublished: another worker may reach the app better.
func TestGivesBackWhatCannotBePublished(t *testing.T) {
	r := newRig(t)
	r.start(setup{})
	var back atomic.Bool
	r.app.SetFault(func(call, _ string) error {
		if call == buildbuddytest.CallPublish && !back.Load() {
			return errTest
		}
		return nil
	})
	task := r.run("true")
	await(t, "given back", func() bool { return len(task.GivenBack()) > 0 })
	back.Store(true)
	if why := task.GivenBack()[0]; !strings.Contains(why.GetMessage(), "publish the outcome") {
		t.Errorf("it was given back since %v", why)
	}
	r.wait(task)
}

// TestGivesBackWhatThisMachineCannotRun: without podman here, another worker may have it.
func TestGivesBackWhatThisMachineCannotRun(t *testing.T) {
	r := newRig(t)
	m := r.start(setup{})
	m.fake.SetHook(func(_ context.Context, op, _ string) error {
		if op == runnertest.OpStart {
			return fmt.Errorf("%w: the test says so", runners.ErrBackend)
		}
		return nil
	})
	task := r.run("true")
	await(t, "given back", func() bool { return len(task.GivenBack()) > 0 })
	m.fake.SetHook(nil)
	if why := task.GivenBack()[0]; codes.Code(why.GetCode()) != codes.Unavailable {
		t.Errorf("it was given back since %v, want UNAVAILABLE", why)
	}
	r.wait(task)
}

// TestDrains: what runs is finished. What is leased and does not run yet is given back
// at once, with a reason, and what was offered is offered to others.
func TestDrains(t *testing.T) {
	r := newRig(t)
	program := newBlocking()
	m := r.start(setup{cpus: 2, program: program.run})
	runs := r.run("block")
	closed(t, "the first command runs", program.begun)
	starting := make(chan struct{})
	m.fake.SetHook(func(ctx context.Context, op, _ string) error {
		if op != runnertest.OpStart {
			return nil
		}
		close(starting)
		<-ctx.Done()
		return context.Cause(ctx)
	})
	leased := r.run("true")
	closed(t, "the second has a runner started", starting)
	offered := r.run("echo", "offered")
	await(t, "the third is offered", func() bool { return offered.Offers() == 1 })
	m.stop(errors.New("the test asks it to leave"))
	await(t, "the second is given back", func() bool { return len(leased.GivenBack()) == 1 })
	if why := leased.GivenBack()[0]; codes.Code(why.GetCode()) != codes.Unavailable || !strings.Contains(why.GetMessage(), "another worker") {
		t.Errorf("it was given back since %v", why)
	}
	r.start(setup{name: "two", program: program.run})
	r.wait(leased)
	r.wait(offered)
	close(program.proceed)
	if resp := r.wait(runs); resp.GetStatus().GetCode() != 0 {
		t.Errorf("what ran ended with %v", resp)
	}
	closed(t, "the worker has left", m.left)
	if got := offered.Takers(); len(got) != 1 || got[0] != "two" || len(runs.Takers()) != 1 {
		t.Errorf("what was offered was taken by %q, what ran by %q", got, runs.Takers())
	}
	program.check(t, 1)
}

// TestHandsBack: at the end of the patience with what runs, it is ended and given back.
func TestHandsBack(t *testing.T) {
	r := newRig(t)
	program := newBlocking()
	m := r.start(setup{program: program.run})
	task := r.run("block")
	closed(t, "the command runs", program.begun)
	m.stop(errors.New("the test asks it to leave"))
	m.handBack()
	closed(t, "the worker has left", m.left)
	if back := task.GivenBack(); len(back) != 1 || codes.Code(back[0].GetCode()) != codes.Unavailable {
		t.Errorf("given back: %v", back)
	}
	r.start(setup{name: "two", program: program.run})
	r.wait(task)
	program.check(t, 2)
}

// TestAsksForMore: a machine with little to do gets what others were offered.
func TestAsksForMore(t *testing.T) {
	r := newRig(t)
	r.app.Ask = true
	r.start(setup{})
	for range 2 {
		r.wait(r.run("true"))
	}
}

// TestOneWorkerHasATask: several are offered a task, and one runs it.
func TestOneWorkerHasATask(t *testing.T) {
	r := newRig(t)
	machines := []*machine{r.start(setup{name: "one", cpus: 4}), r.start(setup{name: "two", cpus: 4}), r.start(setup{name: "three", cpus: 4})}
	await(t, "all are registered", func() bool { return len(r.app.Executors()) == 3 })
	var tasks []*buildbuddytest.Task
	for i := range 30 {
		tasks = append(tasks, r.run("echo", fmt.Sprint(i)))
	}
	for _, task := range tasks {
		r.wait(task)
		if len(task.Takers()) != 1 {
			t.Errorf("task %s was taken by %q", task.ID(), task.Takers())
		}
	}
	ran := 0
	for _, m := range machines {
		ran += m.fake.Count(runnertest.OpRun)
	}
	if ran != len(tasks) {
		t.Errorf("%d commands ran for %d tasks", ran, len(tasks))
	}
}
