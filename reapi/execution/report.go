package execution

import (
	"fmt"
	"strings"

	"github.com/buildbarn/bb-remote-execution/pkg/proto/resourceusage"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/hearth-build/hearth/reapi/execution/actionpb"
	"github.com/hearth-build/hearth/runners"
)

// auxiliary is what the metadata of a result tells besides its times (REAPI H7):
// a report of hearth's own, and the part of it that Buildbarn's tools know.
func (a *attempt) auxiliary(res runners.Result) ([]*anypb.Any, error) {
	report, err := anypb.New(a.actionReport(res))
	if err != nil {
		return nil, fmt.Errorf("encode the action's report: %w", err)
	}
	usage, err := anypb.New(POSIXUsage(res))
	if err != nil {
		return nil, fmt.Errorf("encode the action's usage: %w", err)
	}
	return []*anypb.Any{report, usage}, nil
}

func (a *attempt) actionReport(res runners.Result) *actionpb.ActionReport {
	u := &res.Usage
	return &actionpb.ActionReport{
		Runner: runnerReport(a.lease, a.worker),
		Phases: phaseReports(a.task.Timeline.Phases()),
		Processes: &actionpb.Processes{
			UserNanos:                  int64(u.UserTime),
			SystemNanos:                int64(u.SystemTime),
			MaxResidentBytes:           u.MaxRSS,
			MinorFaults:                u.MinorFaults,
			MajorFaults:                u.MajorFaults,
			VoluntaryContextSwitches:   u.VoluntarySwitches,
			InvoluntaryContextSwitches: u.InvoluntarySwitches,
			LeftoversKilled:            int64(res.Killed),
			TerminationSignal:          signalName(res),
		},
		Memory: &actionpb.Memory{
			PeakBytes:  res.Memory.Peak,
			LimitBytes: res.Memory.Limit,
			OomKills:   int64(res.Memory.Kills),
		},
		Io: &actionpb.Io{
			ReadBytes:        u.BlocksIn * blockBytes,
			WrittenBytes:     u.BlocksOut * blockBytes,
			DiskReadBytes:    res.Disk.ReadBytes,
			DiskWrittenBytes: res.Disk.WrittenBytes,
			DiskReads:        res.Disk.Reads,
			DiskWrites:       res.Disk.Writes,
		},
	}
}

// blockBytes is the unit in which Linux counts what a process reads and writes.
const blockBytes = 512

func runnerReport(lease *runners.Lease, worker actionpb.Runner_Worker) *actionpb.Runner {
	info := lease.Info()
	states := map[runners.State]actionpb.Runner_State{
		runners.Starting: actionpb.Runner_STARTING,
		runners.Idle:     actionpb.Runner_IDLE,
		runners.Paused:   actionpb.Runner_PAUSED,
	}
	return &actionpb.Runner{
		Id:   info.RunnerID,
		Runs: int64(info.Runs),
		Warm: info.Warm,
		// It has values of properties in it, which may come from headers.
		ColdReason: strings.ToValidUTF8(info.ColdReason, "?"),
		TakenFrom:  states[info.WokenFrom],
		Worker:     worker,
		Image:      strings.ToValidUTF8(lease.Image().Name, "?"),
	}
}

func phaseReports(phases []Phase) []*actionpb.Phase {
	reports := make([]*actionpb.Phase, 0, len(phases))
	for _, p := range phases {
		reports = append(reports, &actionpb.Phase{
			Name: p.Name, StartUnixNanos: p.Start.UnixNano(), DurationNanos: int64(p.Duration),
		})
	}
	return reports
}

// signalName names the signal that ended a command, or is empty.
func signalName(res runners.Result) string {
	if res.Signal == 0 {
		return ""
	}
	if name := unix.SignalName(res.Signal); name != "" {
		return name
	}
	return fmt.Sprintf("SIG%d", int(res.Signal)) // the real-time ones have no names
}

// POSIXUsage is what a command used, in Buildbarn's words.
func POSIXUsage(res runners.Result) *resourceusage.POSIXResourceUsage {
	u := &res.Usage
	return &resourceusage.POSIXResourceUsage{
		UserTime:                   durationpb.New(u.UserTime),
		SystemTime:                 durationpb.New(u.SystemTime),
		MaximumResidentSetSize:     u.MaxRSS,
		PageReclaims:               u.MinorFaults,
		PageFaults:                 u.MajorFaults,
		BlockInputOperations:       u.BlocksIn,
		BlockOutputOperations:      u.BlocksOut,
		VoluntaryContextSwitches:   u.VoluntarySwitches,
		InvoluntaryContextSwitches: u.InvoluntarySwitches,
		TerminationSignal:          strings.TrimPrefix(signalName(res), "SIG"),
	}
}
