package execution_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"github.com/buildbarn/bb-remote-execution/pkg/proto/resourceusage"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/hearth-build/hearth/reapi/execution"
	"github.com/hearth-build/hearth/reapi/execution/actionpb"
	"github.com/hearth-build/hearth/runners"
	"github.com/hearth-build/hearth/runners/runnertest"
)

// reports finds the two messages in a result's metadata.
func reports(t *testing.T, out *execution.Outcome) (*actionpb.ActionReport, *resourceusage.POSIXResourceUsage) {
	t.Helper()
	report, usage := &actionpb.ActionReport{}, &resourceusage.POSIXResourceUsage{}
	all := out.Result.GetExecutionMetadata().GetAuxiliaryMetadata()
	if len(all) != 2 || all[0].GetTypeUrl() != "type.googleapis.com/hearth.v1.ActionReport" ||
		all[1].GetTypeUrl() != "type.googleapis.com/buildbarn.resourceusage.POSIXResourceUsage" {
		t.Fatalf("auxiliary metadata %v", all)
	}
	if err := errors.Join(all[0].UnmarshalTo(report), all[1].UnmarshalTo(usage)); err != nil {
		t.Fatal(err)
	}
	return report, usage
}

// used is what all commands of these tests used.
func used(res runners.Result) runners.Result {
	res.Usage = runners.Usage{
		UserTime: time.Second, SystemTime: 2 * time.Second, MaxRSS: 3, BlocksIn: 4, BlocksOut: 5, MinorFaults: 6, MajorFaults: 7,
		VoluntarySwitches: 8, InvoluntarySwitches: 9,
	}
	res.Killed = 10
	res.Memory.Peak, res.Memory.Limit = 90<<20, 128<<20
	res.Disk = runners.Disk{ReadBytes: 13, WrittenBytes: 14, Reads: 15, Writes: 16}
	return res
}

// REAPI H7, H9: every result says what runner it had and what it used, whatever
// became of the action.
func TestActionReport(t *testing.T) {
	for _, tc := range []struct {
		name   string
		result runners.Result
		signal string
		kills  int64
	}{
		{name: "exit 0"},
		{name: "exit 3", result: runners.Result{ExitCode: 3}},
		{name: "signal", result: runners.Result{Signal: syscall.SIGSEGV}, signal: "SIGSEGV"},
		{name: "real-time signal", result: runners.Result{Signal: 40}, signal: "SIG40"},
		{name: "timeout", result: runners.Result{TimedOut: true, Signal: syscall.SIGKILL}, signal: "SIGKILL"},
		{name: "out of memory", result: runners.Result{ExitCode: 137, Memory: runners.Memory{Kills: 12}}, kills: 12},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t)
			r.program(func(string, runnertest.Process) (runners.Result, error) { return used(tc.result), nil })
			report, usage := reports(t, r.run(t.Context()))
			want := &actionpb.ActionReport{
				Runner: report.GetRunner(), Phases: report.GetPhases(),
				Processes: &actionpb.Processes{
					UserNanos: 1e9, SystemNanos: 2e9, MaxResidentBytes: 3, MinorFaults: 6, MajorFaults: 7,
					VoluntaryContextSwitches: 8, InvoluntaryContextSwitches: 9, LeftoversKilled: 10, TerminationSignal: tc.signal,
				},
				Memory: &actionpb.Memory{PeakBytes: 90 << 20, LimitBytes: 128 << 20, OomKills: tc.kills},
				Io: &actionpb.Io{
					ReadBytes: 4 * 512, WrittenBytes: 5 * 512, DiskReadBytes: 13, DiskWrittenBytes: 14, DiskReads: 15, DiskWrites: 16,
				},
			}
			if !proto.Equal(report, want) {
				t.Errorf("got  %v\nwant %v", report, want)
			}
			wantUsage := &resourceusage.POSIXResourceUsage{
				UserTime: durationpb.New(time.Second), SystemTime: durationpb.New(2 * time.Second), MaximumResidentSetSize: 3,
				PageReclaims: 6, PageFaults: 7, BlockInputOperations: 4, BlockOutputOperations: 5,
				VoluntaryContextSwitches: 8, InvoluntaryContextSwitches: 9, TerminationSignal: strings.TrimPrefix(tc.signal, "SIG"),
			}
			if !proto.Equal(usage, wantUsage) {
				t.Errorf("got  %v\nwant %v", usage, wantUsage)
			}
			var names []string
			for _, p := range report.GetPhases() {
				names = append(names, p.GetName())
				if p.GetDurationNanos() < 0 || time.Since(time.Unix(0, p.GetStartUnixNanos())) > time.Hour {
					t.Errorf("phase %v", p)
				}
			}
			if !strings.HasSuffix(strings.Join(names, " "), "inputs execution outputs") {
				t.Errorf("phases %q", names)
			}
		})
	}
}

// The report says how the action got its runner, and why that was cold.
func TestActionReportsItsRunner(t *testing.T) {
	r := newRig(t)
	r.program(func(string, runnertest.Process) (runners.Result, error) { return runners.Result{}, nil })
	first, _ := reports(t, r.run(t.Context()))
	if got := first.GetRunner(); got.GetId() == "" || got.GetRuns() != 1 || got.GetWarm() || got.GetColdReason() == "" ||
		got.GetTakenFrom() != actionpb.Runner_STARTING || got.GetImage() != "host" {
		t.Errorf("the first action: %v", got)
	}
	second, _ := reports(t, r.run(t.Context()))
	if got := second.GetRunner(); got.GetId() != first.GetRunner().GetId() || got.GetRuns() != 2 || !got.GetWarm() || got.GetColdReason() != "" ||
		got.GetTakenFrom() != actionpb.Runner_IDLE {
		t.Errorf("the second action: %v", got)
	}
	// What a header may bring is no reason to lose the result.
	r.action.Platform.Properties = append(r.action.Platform.Properties, &repb.Platform_Property{Name: "odd", Value: "x"})
	r.overrides = []runners.Property{{Name: "odd", Value: "\xff"}}
	third, _ := reports(t, r.run(t.Context()))
	if got := third.GetRunner(); got.GetWarm() || !strings.Contains(got.GetColdReason(), "odd") {
		t.Errorf("another platform: %v", got)
	}
}

// A result that cannot be complete has its report, too.
func TestActionReportOfBadOutputs(t *testing.T) {
	r := newRig(t)
	r.command.OutputPaths = []string{"fifo"}
	r.program(func(root string, _ runnertest.Process) (runners.Result, error) {
		return used(runners.Result{}), syscall.Mkfifo(filepath.Join(root, "fifo"), 0o600)
	})
	out := r.run(t.Context())
	if report, _ := reports(t, out); out.Err == nil || report.GetProcesses().GetLeftoversKilled() != 10 {
		t.Errorf("%v, %v", out.Err, report)
	}
}

// Lack of memory is named, with how much there was and might have been.
func TestActionOutOfMemory(t *testing.T) {
	for name, tc := range map[string]struct {
		result runners.Result
		says   []string
	}{
		"at its limit": {
			runners.Result{ExitCode: 137, Memory: runners.Memory{Peak: 255 << 20, Limit: 256 << 20, Kills: 2}},
			[]string{"Out of memory (OOM)", "killed 2 of", "255MiB at its peak", "the limit is 256MiB (--runner-memory)", "It ran in container image host"},
		},
		"peak unknown": {
			runners.Result{Signal: syscall.SIGKILL, Memory: runners.Memory{Limit: 1 << 30, Kills: 1}},
			[]string{"Out of memory (OOM)", "the limit is 1GiB", "signal 9 (SIGKILL)"},
		},
		"the host's": {
			runners.Result{ExitCode: 1, Memory: runners.Memory{Peak: 1 << 20, Limit: 1 << 30, Kills: 1}},
			[]string{"Out of memory (OOM)", "used 1MiB", "limit of 1GiB", "the host itself ran out"},
		},
		"no limit": {
			runners.Result{ExitCode: 1, Memory: runners.Memory{Peak: 1 << 20, Kills: 1}},
			[]string{"Out of memory (OOM)", "no limit", "the host itself ran out"},
		},
		"a command that copes": {
			runners.Result{Memory: runners.Memory{Peak: 1 << 30, Limit: 1 << 30, Kills: 1}},
			[]string{"Out of memory (OOM)", "the limit is 1GiB"},
		},
		"and a timeout": {
			runners.Result{TimedOut: true, Signal: syscall.SIGKILL, Memory: runners.Memory{Peak: 1 << 30, Limit: 1 << 30, Kills: 1}},
			[]string{"Out of memory (OOM)"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.command.OutputPaths = []string{"out"}
			r.program(func(root string, _ runnertest.Process) (runners.Result, error) {
				return tc.result, os.WriteFile(filepath.Join(root, "out"), nil, 0o600)
			})
			out := r.run(t.Context())
			if errors.Is(out.Err, execution.ErrTimeout) != tc.result.TimedOut || len(out.Result.GetOutputFiles()) != 1 {
				t.Errorf("%+v", out)
			}
			for _, words := range tc.says {
				if !strings.Contains(out.Message, words) {
					t.Errorf("message %q does not say %q", out.Message, words)
				}
			}
			r.program(func(string, runnertest.Process) (runners.Result, error) { return runners.Result{}, nil })
			again := r.run(t.Context())
			if again.Message != "" || r.fake.Count(runnertest.OpStart) != 2 {
				t.Errorf("the runner was used again: %+v", again)
			}
			if r, _ := reports(t, again); !strings.Contains(r.GetRunner().GetColdReason(), "timed out") && !strings.Contains(r.GetRunner().GetColdReason(), "ran out of memory") {
				t.Errorf("the next runner is there since %q", r.GetRunner().GetColdReason())
			}
		})
	}
}

// The report is small, since every result in the action cache has one.
func TestActionReportIsSmall(t *testing.T) {
	r := newRig(t)
	r.program(func(string, runnertest.Process) (runners.Result, error) { return used(runners.Result{}), nil })
	size := 0
	for _, m := range r.run(t.Context()).Result.GetExecutionMetadata().GetAuxiliaryMetadata() {
		size += proto.Size(m)
	}
	if size > 1000 {
		t.Errorf("%d bytes", size)
	}
}
