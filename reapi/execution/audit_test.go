package execution_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hearth-build/hearth/reapi/execution"
	"github.com/hearth-build/hearth/runners"
	"github.com/hearth-build/hearth/runners/runnertest"
)

// slots have room for one action at a time.
func slots(t *testing.T) *execution.Slots {
	t.Helper()
	s, err := execution.NewSlots(execution.SlotsOptions{Total: cpus(1), MaxQueued: 10})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// eventually polls until a condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(time.Minute)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("it never happened that %s", what)
		}
	}
}

// auditRig audits every action.
type auditRig struct {
	*rig
	auditor *execution.Auditor
	log     bytes.Buffer // to be read after close

	mu   sync.Mutex
	runs map[string]int // of programs, by runner
}

// newAuditRig makes actions write what content says, of how many actions their
// runner and all runners together had before.
func newAuditRig(t *testing.T, content func(own, all int) (string, error)) *auditRig {
	t.Helper()
	a := &auditRig{rig: newRig(t), runs: map[string]int{}}
	a.command.OutputPaths = []string{"out"}
	a.program(func(root string, p runnertest.Process) (runners.Result, error) {
		a.mu.Lock()
		all := 0
		for _, n := range a.runs {
			all += n
		}
		text, err := content(a.runs[p.RunnerID], all)
		a.runs[p.RunnerID]++
		a.mu.Unlock()
		if err != nil {
			return runners.Result{}, err
		}
		return runners.Result{}, os.WriteFile(filepath.Join(root, "out"), []byte(text), 0o644)
	})
	var err error
	a.auditor, err = execution.WithAudit(a.executor, execution.AuditOptions{
		Rate: 1, Slots: slots(t), Logger: slog.New(slog.NewTextHandler(&a.log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	a.executor = a.auditor
	return a
}

// audited runs an action in a new runner and in a used one, and waits for its audit.
func (a *auditRig) audited() (execution.AuditCounts, []*execution.Finding) {
	a.t.Helper()
	for range 2 {
		if out := a.run(a.t.Context()); out.Err != nil {
			a.t.Fatal(out.Err)
		}
	}
	var counts execution.AuditCounts
	var found []*execution.Finding
	eventually(a.t, "the audit has ended", func() bool {
		counts, found = a.auditor.Report()
		return counts != execution.AuditCounts{}
	})
	a.close()
	return counts, found
}

func (a *auditRig) close() {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := a.auditor.Close(ctx); err != nil {
		a.t.Error(err)
	}
}

func TestAuditOfAnActionThatIsTheSame(t *testing.T) {
	a := newAuditRig(t, func(int, int) (string, error) { return "same", nil })
	if counts, found := a.audited(); counts != (execution.AuditCounts{Same: 1}) || len(found) > 0 {
		t.Errorf("%+v, %+v", counts, found)
	}
	if len(a.runs) != 2 {
		t.Errorf("it ran in %v", a.runs)
	}
}

func TestAuditFindsALeak(t *testing.T) {
	a := newAuditRig(t, func(own, _ int) (string, error) { return fmt.Sprintf("this runner had %d", own), nil })
	counts, found := a.audited()
	if counts != (execution.AuditCounts{Leaks: 1}) || len(found) != 1 {
		t.Fatalf("%+v, %+v", counts, found)
	}
	f := found[0]
	if f.Unsteady || !f.Runner.Warm || f.Runner.Runs != 2 || len(f.Differences) != 1 || !strings.HasPrefix(f.Differences[0], "file out: ") ||
		len(f.Recycled.GetOutputFiles()) != 1 || len(f.Fresh.GetOutputFiles()) != 1 || fmt.Sprint(f.Args) != "[do]" {
		t.Errorf("%+v", f)
	}
	if !strings.Contains(a.log.String(), "level=WARN") || !strings.Contains(a.log.String(), "file out: ") {
		t.Errorf("the log says %s", &a.log)
	}
	if len(a.runs) != 3 {
		t.Errorf("it ran in %v", a.runs)
	}
}

// An action that is never the same is no proof of a leak.
func TestAuditOfAnUnsteadyAction(t *testing.T) {
	a := newAuditRig(t, func(_, all int) (string, error) { return fmt.Sprintf("run %d of all", all), nil })
	counts, found := a.audited()
	if counts != (execution.AuditCounts{Unsteady: 1}) || len(found) != 1 || !found[0].Unsteady {
		t.Errorf("%+v, %+v", counts, found)
	}
	if strings.Contains(a.log.String(), "level=WARN") {
		t.Errorf("the log warns: %s", &a.log)
	}
}

func TestAuditThatFails(t *testing.T) {
	a := newAuditRig(t, func(_, all int) (string, error) {
		if all == 2 {
			return "", errors.New("broken")
		}
		return "", nil
	})
	if counts, found := a.audited(); counts != (execution.AuditCounts{Failed: 1}) || len(found) > 0 {
		t.Errorf("%+v, %+v", counts, found)
	}
}

// Close ends an audit that would take for ever, and says nothing of it.
func TestAuditEnds(t *testing.T) {
	r := newRig(t)
	var mu sync.Mutex
	runs := 0
	r.fake.SetProgram(func(ctx context.Context, _ runnertest.Process) (runners.Result, error) {
		mu.Lock()
		runs++
		hang := runs == 3
		mu.Unlock()
		if hang {
			<-ctx.Done()
			return runners.Result{}, context.Cause(ctx)
		}
		return runners.Result{}, nil
	})
	auditor, err := execution.WithAudit(r.executor, execution.AuditOptions{Rate: 1, Slots: slots(t)})
	if err != nil {
		t.Fatal(err)
	}
	r.executor = auditor
	r.run(t.Context())
	r.run(t.Context())
	eventually(t, "the audit runs", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return runs == 3
	})
	a := &auditRig{rig: r, auditor: auditor}
	a.close()
	if counts, found := auditor.Report(); counts != (execution.AuditCounts{}) || len(found) > 0 {
		t.Errorf("%+v, %+v", counts, found)
	}
}

// Without a rate nothing runs again.
func TestAuditOfNone(t *testing.T) {
	a := newAuditRig(t, func(int, int) (string, error) { return "", nil })
	a.close()
	var err error
	if a.auditor, err = execution.WithAudit(a.auditor.Executor, execution.AuditOptions{Slots: slots(t)}); err != nil {
		t.Fatal(err)
	}
	a.executor = a.auditor
	a.run(t.Context())
	a.run(t.Context())
	a.close()
	if len(a.runs) != 1 {
		t.Errorf("it ran in %v", a.runs)
	}
	for _, rate := range []float64{-0.1, 1.1, math.NaN()} {
		if _, err := execution.WithAudit(a.executor, execution.AuditOptions{Rate: rate}); err == nil {
			t.Errorf("rate %v is accepted", rate)
		}
	}
}
