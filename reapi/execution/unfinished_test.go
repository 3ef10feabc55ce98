package execution_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/hearth-build/hearth/reapi/execution"
)

// What goes on is described with what it does and, if it waits, why and where it
// stands, at once and not only when it has waited for long.
func TestUnfinished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		b := newBench(t, 1, execution.SchedulerOptions{}, func(_ context.Context, task *execution.Task, report execution.Report) *execution.Outcome {
			task.Enter(report, execution.Progress{Step: execution.StepExecution})
			<-release
			return exited(0)
		})
		defer b.close()
		defer close(release)
		var names []string
		for n, who := range []string{"build 1", "build 1", "build 2"} {
			req := b.request(salted(n))
			req.Invocation, req.Target, req.Tenant = who, "//:x", "t"
			names = append(names, b.submit(req).Name())
			synctest.Wait()
		}
		shared := b.request(salted(0)) // which is one run with the first
		shared.Tenant = "t"
		b.submit(shared)
		all := b.Unfinished(func(*execution.Unfinished) bool { return true })
		if len(all) != 3 {
			t.Fatalf("%d runs go on: %+v", len(all), all)
		}
		if u := all[0]; u.Operation != names[0] || u.Step != execution.StepExecution || u.Wait != nil || u.Why() != "" || u.Queued.IsZero() || len(u.Phases) == 0 || u.Target != "//:x" {
			t.Errorf("the one that runs: %+v", u)
		}
		if u := all[1]; u.Operation != names[1] || u.Wait == nil || u.Wait.Position != 1 || !strings.Contains(u.Why(), "CPU") {
			t.Errorf("the one that is next: %+v, %s", u, u.Why())
		}
		if u := all[2]; u.Operation != names[2] || u.Wait == nil || u.Wait.Position != 2 || !strings.Contains(u.Why(), "1 action") {
			t.Errorf("the last one: %+v, %s", u, u.Why())
		}
		if none := b.Unfinished(func(u *execution.Unfinished) bool { return u.Tenant == "" }); len(none) != 0 {
			t.Errorf("nobody wanted %+v", none)
		}
		if _, ok := all[0].Log(execution.Stdout); ok {
			t.Error("a run that prints nothing has a log")
		}
	})
}
