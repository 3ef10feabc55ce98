package execution

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/runners"
)

// AuditOptions say how recycling is audited.
type AuditOptions struct {
	// Rate is the share of actions in used runners that is run again.
	Rate float64
	// Slots admit what is run again, after all that clients wait for.
	Slots  *Slots
	Logger *slog.Logger
}

// Auditor finds actions whose outputs depend on what their runner did before: it runs
// some of those that had a used runner again, in a new one, and compares. What differs
// is run in a new one once more, to tell a leak from an action that is never the same.
type Auditor struct {
	Executor
	opts  AuditOptions
	queue chan *audited
	end   context.CancelCauseFunc
	ended chan struct{}

	mu       sync.Mutex // guards what follows
	counts   AuditCounts
	findings []*Finding // the oldest first
}

// AuditCounts are actions by what their audit said.
type AuditCounts struct {
	// Same outputs in a new runner; Leaks, other ones, again and again; Unsteady, other
	// ones each time.
	Same, Leaks, Unsteady int
	// Failed to run again; Skipped, since too many waited.
	Failed, Skipped int
}

// Finding is an action whose outputs were others in a new runner.
type Finding struct {
	When             time.Time
	Action           cas.Digest
	Instance, Tenant string
	Mnemonic, Target string
	Args             []string
	// Runner is the used one.
	Runner runners.LeaseInfo
	// Unsteady: two new runners do not agree either.
	Unsteady bool
	// Differences in words, one for each output.
	Differences []string
	// Recycled and Fresh are the results of the used runner and of a new one, whose
	// blobs are in the store for as long as that keeps them.
	Recycled, Fresh *repb.ActionResult
}

// audited is an action to run again.
type audited struct {
	task   *Task
	runner runners.LeaseInfo
	args   []string
	result *repb.ActionResult
}

const (
	// maxAudits is how many actions wait to be run again, and maxFindings how many are
	// remembered.
	maxAudits   = 32
	maxFindings = 100
)

// WithAudit lets base run actions, and some of them again later, until Close.
func WithAudit(base Executor, opts AuditOptions) (*Auditor, error) {
	if !(opts.Rate >= 0 && opts.Rate <= 1) {
		return nil, fmt.Errorf("audit rate %v: it must be from 0, for none, to 1, for all", opts.Rate)
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	ctx, end := context.WithCancelCause(context.Background())
	a := &Auditor{Executor: base, opts: opts, queue: make(chan *audited, maxAudits), end: end, ended: make(chan struct{})}
	go a.run(ctx) // ends with Close
	return a, nil
}

// Close ends what is run again, and waits for that.
func (a *Auditor) Close(ctx context.Context) error {
	a.end(errors.New("the server ends"))
	select {
	case <-a.ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("end the audits: %w", context.Cause(ctx))
	}
}

// Execute implements Executor.
func (a *Auditor) Execute(ctx context.Context, t *Task, report Report) *Outcome {
	out := a.Executor.Execute(ctx, t, report)
	if out.Err == nil && out.Result != nil && t.runner.Warm && rand.Float64() < a.opts.Rate {
		a.offer(&audited{task: t, runner: t.runner, args: t.args, result: out.Result})
	}
	return out
}

func (a *Auditor) offer(one *audited) {
	select {
	case a.queue <- one:
	default:
		a.mu.Lock()
		defer a.mu.Unlock()
		a.counts.Skipped++
	}
}

func (a *Auditor) run(ctx context.Context) {
	defer close(a.ended)
	for {
		select {
		case <-ctx.Done():
			return
		case one := <-a.queue:
			a.audit(ctx, one)
		}
	}
}

// audit runs an action again, and again if that is not the same.
func (a *Auditor) audit(ctx context.Context, one *audited) {
	fresh, err := a.again(ctx, one.task)
	differences := differ(one.result, fresh)
	var unsteady bool
	if err == nil && len(differences) > 0 {
		var third *repb.ActionResult
		third, err = a.again(ctx, one.task)
		unsteady = len(differ(fresh, third)) > 0
	}
	if ctx.Err() != nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case err != nil:
		a.counts.Failed++
		a.opts.Logger.Debug("an audit failed", "action", one.task.ActionDigest.String(), "error", err)
		return
	case len(differences) == 0:
		a.counts.Same++
		return
	case unsteady:
		a.counts.Unsteady++
	default:
		a.counts.Leaks++
	}
	a.keepLocked(&Finding{
		When: time.Now(), Action: one.task.ActionDigest, Instance: one.task.Instance.Name, Tenant: one.task.Tenant,
		Mnemonic: one.task.Mnemonic, Target: one.task.Target, Args: one.args, Runner: one.runner,
		Unsteady: unsteady, Differences: differences, Recycled: one.result, Fresh: fresh,
	})
}

func (a *Auditor) keepLocked(f *Finding) {
	if len(a.findings) == maxFindings {
		a.findings = slices.Delete(a.findings, 0, 1)
	}
	a.findings = append(a.findings, f)
	what := "an action had other outputs in a new runner than in a used one: something that was left there had an effect"
	level := slog.LevelWarn
	if f.Unsteady {
		what, level = "an action has other outputs each time it runs", slog.LevelInfo
	}
	a.opts.Logger.Log(context.Background(), level, what, "action", f.Action.String(), "mnemonic", f.Mnemonic, "target", f.Target,
		"runner", f.Runner.RunnerID, "runs", f.Runner.Runs, "differences", strings.Join(f.Differences, "; "))
}

// again runs the action of a task in a new runner, when nothing else waits.
func (a *Auditor) again(ctx context.Context, t *Task) (*repb.ActionResult, error) {
	task := &Task{
		Instance: t.Instance, Tenant: t.Tenant, ActionDigest: t.ActionDigest, Action: t.Action, SkipCacheLookup: true,
		Overrides: notRecycled(t.Overrides), Timeline: Timeline{Queued: time.Now()},
	}
	task.ticket = newTicket(task, func(Wait) {})
	a.opts.Slots.join(task.ticket, &place{priority: math.MaxInt32, tenant: t.Tenant, invocation: "\x00audit"})
	out := a.Executor.Execute(ctx, task, func(Progress) {})
	if out.Err == nil && out.Result == nil {
		out.Err = errors.New("there is no result")
	}
	return out.Result, out.Err
}

// notRecycled are overrides with which an action gets a runner of its own, and no
// persistent worker, whose memory is what is audited, too.
func notRecycled(overrides []runners.Property) []runners.Property {
	kept := slices.DeleteFunc(slices.Clone(overrides), func(p runners.Property) bool {
		return strings.EqualFold(p.Name, "recycle-runner") || strings.EqualFold(p.Name, "dockerReuse") ||
			strings.EqualFold(p.Name, "persistent-workers")
	})
	return append(kept, runners.Property{Name: "recycle-runner", Value: "false"},
		runners.Property{Name: "persistent-workers", Value: "false"})
}

// differ says in what two results differ that clients use.
func differ(a, b *repb.ActionResult) []string {
	was, is := factsOf(a), factsOf(b)
	var words []string
	for name, fact := range was {
		if is[name] != fact {
			words = append(words, fmt.Sprintf("%s: %s, and %s in a new runner", name, fact, orAbsent(is[name])))
		}
	}
	for name, fact := range is {
		if _, ok := was[name]; !ok {
			words = append(words, fmt.Sprintf("%s: absent, and %s in a new runner", name, fact))
		}
	}
	slices.Sort(words)
	return words
}

func orAbsent(fact string) string {
	if fact == "" {
		return "absent"
	}
	return fact
}

// factsOf are the exit code and the outputs of a result, by name. What a command
// prints is left out: times and addresses are often in it.
func factsOf(r *repb.ActionResult) map[string]string {
	facts := map[string]string{"exit code": fmt.Sprint(r.GetExitCode())}
	blob := func(d *repb.Digest) string { return fmt.Sprintf("%s/%d", d.GetHash(), d.GetSizeBytes()) }
	for _, f := range r.GetOutputFiles() {
		facts["file "+f.GetPath()] = blob(f.GetDigest())
		if f.GetIsExecutable() {
			facts["file "+f.GetPath()] += ", executable"
		}
	}
	for _, d := range r.GetOutputDirectories() {
		facts["directory "+d.GetPath()] = blob(d.GetTreeDigest()) + blob(d.GetRootDirectoryDigest())
	}
	for _, links := range [][]*repb.OutputSymlink{r.GetOutputSymlinks(), r.GetOutputFileSymlinks(), r.GetOutputDirectorySymlinks()} { //nolint:staticcheck // old clients are sent these
		for _, l := range links {
			facts["symlink "+l.GetPath()] = "-> " + l.GetTarget()
		}
	}
	return facts
}

// Report returns how audits ended, and what they found, the latest first.
func (a *Auditor) Report() (AuditCounts, []*Finding) {
	a.mu.Lock()
	defer a.mu.Unlock()
	found := slices.Clone(a.findings)
	slices.Reverse(found)
	return a.counts, found
}
