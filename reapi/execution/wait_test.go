package execution_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/reapi/execution"
	"github.com/hearth-build/hearth/reapi/execution/actionpb"
	"github.com/hearth-build/hearth/runners"
)

// journal is a log that tests read.
type journal struct {
	mu   sync.Mutex // guards text
	text strings.Builder
}

// Write implements io.Writer.
func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(b)
}

func (j *journal) count(part string) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Count(j.text.String(), part)
}

// newMatchingBench is a bench whose actions are matched and admitted, and log.
func newMatchingBench(t *testing.T, total execution.Resources, run executorFunc) (*bench, *journal) {
	t.Helper()
	log := &journal{}
	logger := slog.New(slog.NewTextHandler(log, nil))
	slots, err := execution.NewSlots(execution.SlotsOptions{Total: total, MaxQueued: 20_000, Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, instance: newInstance("")}
	b.Scheduler, err = execution.NewScheduler(execution.WithMatching(execution.WithAdmission(run, slots)), slots, execution.SchedulerOptions{Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	return b, log
}

// action needs what its properties say.
func (b *bench) action(n int, properties ...string) *repb.Action {
	a := salted(n)
	a.CommandDigest = put(b.t, b.instance.Store, &repb.Command{Arguments: []string{"true"}}).Proto()
	a.Platform = platformOf(properties...)
	return a
}

func platformOf(properties ...string) *repb.Platform {
	p := &repb.Platform{}
	for _, property := range properties {
		name, value, _ := strings.Cut(property, "=")
		p.Properties = append(p.Properties, &repb.Platform_Property{Name: name, Value: value})
	}
	return p
}

// progress is what the metadata of an operation's state says.
func progress(t *testing.T, op *execution.Operation) *actionpb.ActionProgress {
	t.Helper()
	md, err := op.State().Metadata()
	if err != nil {
		t.Fatal(err)
	}
	p := &actionpb.ActionProgress{}
	if len(md.GetAuxiliaryMetadata()) != 1 {
		t.Fatalf("metadata %v", md)
	}
	if err := md.GetAuxiliaryMetadata()[0].UnmarshalTo(p); err != nil {
		t.Fatal(err)
	}
	return p
}

func sleepingFor(d time.Duration) executorFunc {
	return func(ctx context.Context, task *execution.Task, report execution.Report) *execution.Outcome {
		task.Enter(report, execution.Progress{Step: execution.StepExecution})
		select {
		case <-time.After(d):
			return exited(0)
		case <-ctx.Done():
			return &execution.Outcome{Err: context.Cause(ctx)}
		}
	}
}

// REAPI F8: who waits for more than 5 s learns why and where it stands, from the
// operation and from the log.
func TestLongWaitsAreExplained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, log := newMatchingBench(t, execution.Resources{MilliCPU: 4000, Memory: 16 << 30, Runners: 100}, sleepingFor(time.Minute))
		defer b.close()
		from := func(invocation string, n int, properties ...string) *execution.Operation {
			req := b.request(b.action(n, append(properties, "recycle-runner=true")...))
			req.Invocation = invocation
			op := b.submit(req)
			synctest.Wait()
			return op
		}
		running := from("a", 0, "EstimatedCPU=3", "EstimatedMemory=12GB")
		memory := from("b", 1, "EstimatedMemory=5GiB")
		first, second := from("c", 2, "EstimatedCPU=2"), from("a", 3, "EstimatedCPU=2")
		time.Sleep(4900 * time.Millisecond)
		if p := progress(t, memory); p.GetReason() != "" || p.GetQueue() != nil || p.GetPhase() != actionpb.ActionProgress_QUEUED {
			t.Errorf("before 5 s: %v", p)
		}
		time.Sleep(1200 * time.Millisecond)
		for _, tc := range []struct {
			op       *execution.Operation
			reason   string
			position int64
			before   int64
			short    string
		}{
			{memory, "waits for memory: 5 GiB asked, 4 GiB free", 1, 0, "memory 5.36870912e+09 4.294967296e+09"},
			{first, "waits for 2 CPUs (1 free); 1 action of 1 invocation is before it", 2, 1, "CPU 2 1"},
			{second, "waits for 2 CPUs (1 free); 2 actions of 2 invocations are before it", 3, 2, "CPU 2 1"},
		} {
			p := progress(t, tc.op)
			short := p.GetQueue().GetShortage()
			if p.GetReason() != tc.reason || p.GetQueue().GetPosition() != tc.position || p.GetQueue().GetInvocationsBefore() != tc.before ||
				fmt.Sprint(short.GetResource(), " ", short.GetAsked(), " ", short.GetFree()) != tc.short {
				t.Errorf("%v, want %+v", p, tc)
			}
			if log.count(fmt.Sprintf("reason=%q", tc.reason)) != 1 {
				t.Errorf("the log does not say once %q:\n%s", tc.reason, log.text.String())
			}
		}
		if p := progress(t, running); p.GetPhase() != actionpb.ActionProgress_EXECUTION || p.GetReason() != "" {
			t.Errorf("what runs: %v", p)
		}
		final(t, running)
		synctest.Wait()
		if p := progress(t, first); p.GetPhase() != actionpb.ActionProgress_EXECUTION || p.GetQueue() != nil || p.GetReason() != "" {
			t.Errorf("after its turn: %v", p)
		}
		final(t, second)
	})
}

// REAPI F7, F8: a watcher is woken when there is a reason, and then hears of its
// place with each sign of life.
func TestWatchersLearnOfLongWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// It ends between two signs of life.
		b, _ := newMatchingBench(t, cpus(1), sleepingFor(55*time.Second))
		defer b.close()
		b.submit(b.request(b.action(0, "a=1")))
		synctest.Wait()
		op := b.submit(b.request(b.action(1, "a=1")))
		begin := time.Now()
		var reasons []string
		err := op.Watch(t.Context(), func(s execution.State) error {
			if s.Wait != nil {
				reasons = append(reasons, fmt.Sprintf("%v %d", time.Since(begin).Truncate(time.Second), s.Wait.Position))
			}
			return nil
		})
		if want := "[5s 1 10s 1 20s 1 30s 1 40s 1 50s 1]"; err != nil || fmt.Sprint(reasons) != want {
			t.Errorf("%v, told at %v, want %s", err, reasons, want)
		}
	})
}

// The log stays readable when thousands wait.
func TestManyLongWaitsAreLoggedInFewLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, log := newMatchingBench(t, cpus(1), sleepingFor(time.Hour))
		defer b.close()
		for i := range 1001 {
			b.submit(b.request(b.action(i, "a=1")))
		}
		time.Sleep(20 * time.Second)
		if few, more := log.count(`msg="action waits"`), log.count(`msg="more actions wait" count=990`); few != 10 || more != 1 {
			t.Errorf("%d lines and %d sums", few, more)
		}
	})
}

// An admitted action that waits for a pull or a container says so at once, and
// in the log if that takes long. Its command may take what it likes.
func TestWaitsAfterAdmission(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, log := newMatchingBench(t, cpus(1), func(_ context.Context, task *execution.Task, report execution.Report) *execution.Outcome {
			for _, p := range []execution.Progress{
				{Step: execution.StepCheck},
				{Step: execution.StepImage, Reason: "pulling X"},
				{Step: execution.StepRunner, Reason: "starting a container"},
				{Step: execution.StepInputs, Reason: "fetching the inputs"},
				{Step: execution.StepExecution},
			} {
				task.Enter(report, p)
				d := 10 * time.Second
				if p.Step == execution.StepRunner {
					d = 4 * time.Second
				}
				time.Sleep(d)
			}
			return exited(0)
		})
		defer b.close()
		op := b.submit(b.request(b.action(0, "a=1")))
		var told []string
		err := op.Watch(t.Context(), func(s execution.State) error {
			if text := fmt.Sprintf("%v %q", s.Step, s.Reason); len(told) == 0 || told[len(told)-1] != text {
				told = append(told, text)
			}
			return nil
		})
		want := `[ACCEPTED "" CHECK "" IMAGE "pulling X" RUNNER "starting a container" INPUTS "fetching the inputs" EXECUTION "" COMPLETED ""]`
		if err != nil || fmt.Sprint(told) != want {
			t.Errorf("%v, told %v, want %s", err, told, want)
		}
		for part, n := range map[string]int{`reason="pulling X"`: 1, `reason="starting a container"`: 0, `reason="fetching the inputs"`: 1, `msg="action waits"`: 3} {
			if got := log.count(part); got != n {
				t.Errorf("the log says %d times %s, want %d:\n%s", got, part, n, log.text.String())
			}
		}
	})
}

// REAPI F36, F37, F49, F38: an action that no runner can take fails at once, even
// while thousands wait, and says what differs. Action.platform counts if it has
// properties, else Command.platform.
func TestNoRunnerCanTakeIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _ := newMatchingBench(t, execution.Resources{MilliCPU: 2000, Memory: 8 << 30, Runners: 100}, sleepingFor(time.Hour))
		defer b.close()
		for i := range 100 {
			b.submit(b.request(b.action(i, "a=1")))
		}
		synctest.Wait()
		for i, tc := range []struct {
			action, command []string
			want            []string // nothing: it waits
		}{
			{[]string{"OSFamily=darwin", "Arch=sparc"}, nil, []string{`OSFamily is "darwin"`, `has "linux"`, `Arch is "sparc"`}},
			{nil, []string{"workload-isolation-type=firecracker"}, []string{`"firecracker"`, `"podman"`}},
			{[]string{"a=1"}, []string{"workload-isolation-type=firecracker"}, nil},
			{[]string{"EstimatedCPU=2.5"}, nil, []string{"EstimatedCPU is 2.5", "has 2 (--slots)"}},
			{nil, []string{"EstimatedMemory=9GB"}, []string{"EstimatedMemory is 9 GiB", "has 8 GiB (--memory)"}},
			{[]string{"EstimatedComputeUnits=3"}, nil, []string{"EstimatedComputeUnits is 3", "has 2 (--slots)"}},
			{[]string{"resources:gpu=1"}, nil, []string{"resources:gpu is 1", "has 0 (--resource)"}},
			{[]string{"ISA=x", "ISA=y", "Pool=any", "persistentWorkerKey=k"}, nil, nil},
		} {
			a := b.action(1000+i, tc.action...)
			a.CommandDigest = put(t, b.instance.Store, &repb.Command{Arguments: []string{"true"}, Platform: platformOf(tc.command...)}).Proto() //nolint:staticcheck // as older clients send it.
			begin := time.Now()
			op := b.submit(b.request(a))
			synctest.Wait()
			state := op.State()
			if state.Done() != (tc.want != nil) {
				t.Errorf("%v: done is %v", tc, state.Done())
				continue
			}
			if !state.Done() {
				continue
			}
			if err := state.Outcome.Err; !errors.Is(err, runners.ErrPlatform) || time.Since(begin) > time.Second {
				t.Errorf("%v: %v", tc, err)
			}
			for _, part := range tc.want {
				if !contains(state.Outcome.Err.Error(), part) {
					t.Errorf("%v does not say %q", state.Outcome.Err, part)
				}
			}
		}
	})
}

// REAPI F44, F45: a Command that is missing is left to be told with all else that
// is; a malformed one is told at once.
func TestMatchingReadsTheCommand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ran := make(chan struct{}, 1)
		b, _ := newMatchingBench(t, cpus(1), func(context.Context, *execution.Task, execution.Report) *execution.Outcome {
			ran <- struct{}{}
			return &execution.Outcome{Err: &cas.MissingError{}}
		})
		defer b.close()
		missing := &repb.Action{CommandDigest: cas.SHA256.Sum([]byte("no such command")).Proto()}
		final(t, b.submit(b.request(missing)))
		select {
		case <-ran:
		default:
			t.Error("an action with a missing Command did not get to where all that is missing is told")
		}
		garbage, err := cas.PutBytes(t.Context(), b.instance.Store, cas.SHA256, []byte("\xff\xff"))
		if err != nil {
			t.Fatal(err)
		}
		for name, a := range map[string]*repb.Action{"garbage": {CommandDigest: garbage.Proto()}, "no command": {}} {
			if out := final(t, b.submit(b.request(a))); !errors.Is(out.Err, execution.ErrInvalid) {
				t.Errorf("%s: %v", name, out.Err)
			}
		}
		if len(ran) > 0 {
			t.Error("a malformed action was run")
		}
	})
}

// The server's default properties and the headers of a request count in
// admission as everywhere.
func TestMatchingKnowsDefaultsAndOverrides(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _ := newMatchingBench(t, cpus(4), sleepingFor(time.Hour))
		defer b.close()
		b.instance.DefaultProperties = []runners.Property{{Name: "EstimatedCPU", Value: "3"}}
		b.submit(b.request(b.action(1)))
		synctest.Wait()
		b.submit(b.request(b.action(2)))
		synctest.Wait()
		if l := b.Load(); l.Running != 1 || l.Queued != 1 {
			t.Errorf("load %+v", l)
		}
		req := b.request(b.action(3))
		req.Overrides = []runners.Property{{Name: "estimatedcpu", Value: "1"}}
		b.submit(req)
		synctest.Wait()
		if l := b.Load(); l.Running != 2 {
			t.Errorf("load %+v: one that needs 1 CPU can run beside one that waits for 3 of 4", l)
		}
	})
}

// What an action of some milliseconds does is not worth a message for each step.
func TestShortStepsAreNotTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _ := newMatchingBench(t, cpus(1), func(_ context.Context, task *execution.Task, report execution.Report) *execution.Outcome {
			for _, step := range []execution.Step{execution.StepCheck, execution.StepInputs, execution.StepExecution, execution.StepOutputs} {
				task.Enter(report, execution.Progress{Step: step})
				time.Sleep(20 * time.Millisecond)
			}
			return exited(0)
		})
		defer b.close()
		var told []execution.Step
		op := b.submit(b.request(b.action(0, "a=1")))
		if err := op.Watch(t.Context(), func(s execution.State) error { told = append(told, s.Step); return nil }); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(told); got != "[ACCEPTED CHECK COMPLETED]" {
			t.Errorf("told %s", got)
		}
	})
}
