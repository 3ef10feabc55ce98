package buildbarn_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	caspb "github.com/buildbarn/bb-remote-execution/pkg/proto/cas"
	"github.com/buildbarn/bb-remote-execution/pkg/proto/remoteworker"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/reapi/buildbarn"
	"github.com/hearth-build/hearth/reapi/buildbarn/buildbarntest"
	"github.com/hearth-build/hearth/runners"
	"github.com/hearth-build/hearth/runners/runnertest"
)

func mustURL(t *testing.T, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// TestRunsActions: each slot has one action at a time, and what the scheduler says of
// it is in the result, in the action cache, too.
func TestRunsActions(t *testing.T) {
	r := newRig(t, setup{slots: 2, cpus: 2, program: runnertest.Builtins})
	queued := timestamppb.New(time.Unix(1000, 5))
	note, err := anypb.New(&repb.RequestMetadata{ToolInvocationId: "build 1", ActionMnemonic: "CppCompile"})
	if err != nil {
		t.Fatal(err)
	}
	var tasks []*buildbarntest.Task
	var assigned []*remoteworker.DesiredState_Executing
	for i := range 6 {
		a := r.assignment("echo", fmt.Sprint(i))
		a.QueuedTimestamp, a.AuxiliaryMetadata = queued, []*anypb.Any{note}
		assigned, tasks = append(assigned, a), append(tasks, r.queue.Submit(a))
	}
	takers := map[string]bool{}
	for i, task := range tasks {
		resp := r.wait(task)
		printed := cas.SHA256.Sum(fmt.Appendf(nil, "%d\n", i)).Proto()
		if resp.GetStatus().GetCode() != 0 || !proto.Equal(resp.GetResult().GetStdoutDigest(), printed) {
			t.Fatalf("action %d: %v", i, resp)
		}
		action, err := cas.FromProto(repb.DigestFunction_SHA256, assigned[i].GetActionDigest())
		if err != nil {
			t.Fatal(err)
		}
		cached, err := r.results.Get(t.Context(), action)
		if err != nil || !proto.Equal(cached, resp.GetResult()) {
			t.Errorf("the action cache has %v (%v), want %v", cached, err, resp.GetResult())
		}
		md := cached.GetExecutionMetadata()
		if !proto.Equal(md.GetQueuedTimestamp(), queued) || md.GetWorker() != "here" || md.GetVirtualExecutionDuration() == nil {
			t.Errorf("the metadata is %v", md)
		}
		if aux := md.GetAuxiliaryMetadata(); len(aux) < 2 || !proto.Equal(aux[0], note) {
			t.Errorf("the auxiliary metadata is %v, want the scheduler's and the runner's", aux)
		}
		want := "Action details (cached result): https://browser.example/bb/prefix/suffix/blobs/sha256/action/" +
			fmt.Sprintf("%s-%d/", action.Hash(), action.Size())
		if resp.GetMessage() != want {
			t.Errorf("the message is %q, want %q", resp.GetMessage(), want)
		}
		takers[strings.Join(task.Takers(), ", ")] = true
	}
	if !takers["node=n1 thread=0"] && !takers["node=n1 thread=1"] {
		t.Errorf("the actions went to %v", takers)
	}
}

// TestReportsStages: a long action is reported as it goes on.
func TestReportsStages(t *testing.T) {
	proceed := make(chan struct{})
	r := newRig(t, setup{program: func(ctx context.Context, _ runnertest.Process) (runners.Result, error) {
		select {
		case <-proceed:
			return runners.Result{}, nil
		case <-ctx.Done():
			return runners.Result{}, context.Cause(ctx)
		}
	}})
	task := r.queue.Submit(r.assignment("long"))
	await(t, "reported as running", func() bool { return slices.Contains(task.Reported(), "running") })
	close(proceed)
	r.wait(task)
	if got := task.Reported(); got[len(got)-1] != "completed" {
		t.Errorf("reported: %v", got)
	}
}

// blocking is a program that waits for its end, and tells of its beginning and its end.
func blocking() (program runnertest.Program, begun, ended chan struct{}) {
	begun, ended = make(chan struct{}), make(chan struct{})
	return func(ctx context.Context, p runnertest.Process) (runners.Result, error) {
		if p.Args[0] != "block" {
			return runnertest.Builtins(ctx, p)
		}
		close(begun)
		defer close(ended)
		<-ctx.Done()
		return runners.Result{}, context.Cause(ctx)
	}, begun, ended
}

// TestEndsWhatNobodyWants: the scheduler says so when it is called, and the slot goes on.
func TestEndsWhatNobodyWants(t *testing.T) {
	program, begun, ended := blocking()
	r := newRig(t, setup{program: program})
	r.queue.Sync = time.Second
	task := r.queue.Submit(r.assignment("block"))
	closed(t, "the command runs", begun)
	task.Cancel()
	closed(t, "the command is over", ended)
	if resp := r.wait(r.queue.Submit(r.assignment("true"))); resp.GetStatus().GetCode() != 0 {
		t.Errorf("the next action: %v", resp)
	}
	if got := task.Reported(); slices.Contains(got, "completed") {
		t.Errorf("of what nobody wanted was reported: %v", got)
	}
}

// TestTellsResultsAgain: a result is told until the scheduler has answered, and its
// action is run once.
func TestTellsResultsAgain(t *testing.T) {
	for _, answerLost := range []bool{false, true} {
		t.Run(fmt.Sprintf("answerLost=%v", answerLost), func(t *testing.T) {
			r := newRig(t, setup{program: runnertest.Builtins})
			faults := 3
			r.queue.SetFault(func(req *remoteworker.SynchronizeRequest, done bool) error {
				if req.GetCurrentState().GetExecuting().GetCompleted() == nil || done != answerLost || faults == 0 {
					return nil
				}
				faults--
				return errors.New("the test lets this call fail")
			})
			first, second := r.queue.Submit(r.assignment("true")), r.queue.Submit(r.assignment("echo", "2"))
			r.wait(first)
			r.wait(second)
			if n := r.fake.Count(runnertest.OpRun); n != 2 {
				t.Errorf("%d commands ran, want 2", n)
			}
			if len(first.Takers()) != 1 {
				t.Errorf("the first action went to %v", first.Takers())
			}
		})
	}
}

// TestTakesLostAssignment: the answer with an action in it was lost; it is handed out
// again, without that the slot takes another one.
func TestTakesLostAssignment(t *testing.T) {
	r := newRig(t, setup{program: runnertest.Builtins, unready: true})
	task := r.queue.Submit(r.assignment("true"))
	lost := false
	r.queue.SetFault(func(_ *remoteworker.SynchronizeRequest, done bool) error {
		if !done || lost {
			return nil
		}
		lost = true
		return errors.New("the test loses this answer")
	})
	r.unready.Store(false)
	r.wait(task)
	if n := r.fake.Count(runnertest.OpRun); n != 1 {
		t.Errorf("%d commands ran, want 1", n)
	}
}

// TestKeepsWhatIsNotCached: bb-browser finds what has no place in the action cache.
func TestKeepsWhatIsNotCached(t *testing.T) {
	r := newRig(t, setup{program: runnertest.Builtins})
	for name, args := range map[string][]string{"fails": {"false"}, "is not there": {"nonsense"}} {
		t.Run(name, func(t *testing.T) {
			assigned := r.assignment(args...)
			resp := r.wait(r.queue.Submit(assigned))
			const before = "https://browser.example/bb/prefix/suffix/blobs/sha256/historical_execute_response/"
			_, link, found := strings.Cut(resp.GetMessage(), "Action details (uncached result): "+before)
			if !found {
				t.Fatalf("the message has no link: %q", resp.GetMessage())
			}
			var hash string
			var size int64
			if _, err := fmt.Sscanf(strings.Replace(link, "-", " ", 1), "%s %d/", &hash, &size); err != nil {
				t.Fatal(err)
			}
			d, err := cas.ParseDigest(cas.SHA256, hash, size)
			if err != nil {
				t.Fatal(err)
			}
			data, err := cas.ReadAll(t.Context(), r.store, d, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			kept := &caspb.HistoricalExecuteResponse{}
			if err := proto.Unmarshal(data, kept); err != nil {
				t.Fatal(err)
			}
			if !proto.Equal(kept.GetActionDigest(), assigned.GetActionDigest()) || kept.GetExecuteResponse().GetResult().GetExitCode() != resp.GetResult().GetExitCode() ||
				!proto.Equal(kept.GetExecuteResponse().GetStatus(), resp.GetStatus()) {
				t.Errorf("kept: %v\ntold: %v", kept, resp)
			}
		})
	}
}

// TestNamesMissingBlobs: the client can upload them and try again.
func TestNamesMissingBlobs(t *testing.T) {
	r := newRig(t, setup{program: runnertest.Builtins})
	assigned := r.assignment("true")
	assigned.Action = proto.CloneOf(assigned.GetAction())
	assigned.Action.CommandDigest = cas.SHA256.Sum([]byte("nobody has this")).Proto()
	resp := r.wait(r.queue.Submit(assigned))
	if s := status.FromProto(resp.GetStatus()); s.Code() != codes.FailedPrecondition || len(s.Details()) != 1 {
		t.Errorf("the response is %v", resp)
	}
}

// TestTakesNothingUnready: a machine that cannot run actions asks for none.
func TestTakesNothingUnready(t *testing.T) {
	r := newRig(t, setup{program: runnertest.Builtins, unready: true})
	task := r.queue.Submit(r.assignment("true"))
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := task.Wait(ctx); err == nil || len(task.Takers()) > 0 {
		t.Fatalf("a worker that is not ready took the action: %v", task.Takers())
	}
	r.unready.Store(false)
	r.wait(task)
}

// TestLeavesAtOnceWhenIdle: a call that waits for work does not keep a worker.
func TestLeavesAtOnceWhenIdle(t *testing.T) {
	r := newRig(t, setup{slots: 3, program: runnertest.Builtins})
	await(t, "all slots wait for work", func() bool { return len(r.queue.Calling()) == 3 })
	r.stop(errors.New("the test asks it to leave"))
	closed(t, "the worker has left", r.left)
	if calling := r.queue.Calling(); len(calling) > 0 {
		t.Errorf("still calling: %v", calling)
	}
}

// TestDrains: what runs is finished; what waits for room is handed back at once, with
// a status after which clients try again; nothing new is taken.
func TestDrains(t *testing.T) {
	proceed, begun := make(chan struct{}), make(chan struct{})
	r := newRig(t, setup{slots: 2, cpus: 1, program: func(context.Context, runnertest.Process) (runners.Result, error) {
		close(begun)
		<-proceed
		return runners.Result{}, nil
	}})
	runs := r.queue.Submit(r.assignment("runs"))
	closed(t, "the first command runs", begun)
	await(t, "reported as running", func() bool { return slices.Contains(runs.Reported(), "running") })
	waits := r.queue.Submit(r.assignment("waits"))
	await(t, "the second action is taken", func() bool { return len(waits.Takers()) == 1 })
	r.stop(errors.New("the test asks it to leave"))
	if got := r.wait(waits); codes.Code(got.GetStatus().GetCode()) != codes.Unavailable {
		t.Errorf("what waited ended with %v, want UNAVAILABLE", got)
	}
	late := r.queue.Submit(r.assignment("late"))
	close(proceed)
	if got := r.wait(runs); got.GetStatus().GetCode() != 0 {
		t.Errorf("what ran ended with %v", got)
	}
	closed(t, "the worker has left", r.left)
	if len(late.Takers()) > 0 {
		t.Errorf("a worker that leaves took an action")
	}
}

// TestHandsBack: at the end of the patience with what runs, it is ended and handed back.
func TestHandsBack(t *testing.T) {
	program, begun, ended := blocking()
	r := newRig(t, setup{program: program})
	task := r.queue.Submit(r.assignment("block"))
	closed(t, "the command runs", begun)
	await(t, "reported as running", func() bool { return slices.Contains(task.Reported(), "running") })
	r.stop(errors.New("the test asks it to leave"))
	r.handBack()
	if got := r.wait(task); codes.Code(got.GetStatus().GetCode()) != codes.Unavailable || !strings.Contains(got.GetStatus().GetMessage(), "another worker") {
		t.Errorf("what ran ended with %v, want UNAVAILABLE", got)
	}
	closed(t, "the command is over", ended)
	closed(t, "the worker has left", r.left)
}

func TestValidateNamesEveryBadOption(t *testing.T) {
	_, err := buildbarn.NewWorker(buildbarn.Options{Slots: -1, Platform: []runners.Property{{Value: "x"}}})
	for _, text := range []string{"slots is -1", "ID is empty", "has no name", "is missing"} {
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%q is not in: %v", text, err)
		}
	}
	if _, err := buildbarn.NewWorker(buildbarn.Options{ID: map[string]string{"thread": "0"}}); err == nil || !strings.Contains(err.Error(), `"thread"`) {
		t.Errorf("a label for slots: %v", err)
	}
}
