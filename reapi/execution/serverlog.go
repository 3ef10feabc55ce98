package execution

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"time"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"

	"github.com/hearth-build/hearth/cas"
)

// serverLogName is what clients call the file that they make of the log (REAPI F65).
const serverLogName = "hearth.log"

// logged has a log of each run that failed.
type logged struct{ Executor }

// WithServerLogs tells in a log, for clients to download, what happened to each run
// of base that was on its way to a runner and failed. Of a run that never got so
// far, the error says everything.
func WithServerLogs(base Executor) Executor { return &logged{base} }

// Execute implements Executor.
func (e *logged) Execute(ctx context.Context, t *Task, report Report) *Outcome {
	out := e.Executor.Execute(ctx, t, report)
	failed := out.Err != nil || out.Result.GetExitCode() != 0
	if !failed || !t.wantedRunner() || ctx.Err() != nil {
		return out
	}
	d, err := cas.PutBytes(ctx, t.Store(), t.ActionDigest.Function(), t.serverLog(out))
	if err != nil {
		// The result stays what it is, since the log is only for people.
		out.Message = joinMessages(out.Message, fmt.Sprintf("The log of the server could not be stored: %v.", err))
		return out
	}
	out.ServerLogs = map[string]*repb.LogFile{serverLogName: {Digest: d.Proto(), HumanReadable: true}}
	return out
}

// wantedRunner reports whether the run had a runner, or waited for one.
func (t *Task) wantedRunner() bool {
	return t.runner.RunnerID != "" || t.Timeline.taken(StepRunner) > 0
}

// serverLog is the story of a run: what it was, when it did what, where, and how it
// ended.
func (t *Task) serverLog(out *Outcome) []byte {
	var b bytes.Buffer
	line := func(name, value string) {
		if value != "" {
			value = strings.ReplaceAll(value, "\n", "\n"+strings.Repeat(" ", 11))
			fmt.Fprintf(&b, "%-10s %s\n", name, strings.ToValidUTF8(value, "?"))
		}
	}
	line("action", t.ActionDigest.Name())
	line("instance", t.Instance.Name)
	line("invocation", t.Invocation)
	line("mnemonic", t.Mnemonic)
	line("target", t.Target)
	if len(t.args) > 0 {
		line("command", fmt.Sprintf("%q", t.args))
	}
	line("accepted", t.Timeline.Queued.UTC().Format(time.RFC3339Nano))
	for _, p := range t.Timeline.Phases() {
		line("phase", fmt.Sprintf("%-12s at +%v, took %v", p.Name, rounded(p.Start.Sub(t.Timeline.Queued)), rounded(p.Duration)))
	}
	if t.runner.RunnerID != "" {
		line("runner", fmt.Sprintf("%s, action %d of it", t.runner.RunnerID, t.runner.Runs))
		line("cold start", t.runner.ColdReason)
	}
	if out.Err != nil {
		line("error", out.Err.Error())
	}
	if out.Result != nil {
		line("exit code", fmt.Sprint(out.Result.GetExitCode()))
	}
	line("message", out.Message)
	return b.Bytes()
}

func rounded(d time.Duration) time.Duration { return d.Round(time.Microsecond) }
