package console

import (
	"encoding/json"
	"net/http"
	"time"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/hearth-build/hearth/reapi/execution"
)

// Audit is what became of actions that were run again in a new runner.
type Audit struct {
	Same     int `json:"same"`
	Leaks    int `json:"leaks"`
	Unsteady int `json:"unsteady"`
	Failed   int `json:"failed"`
	Skipped  int `json:"skipped"`
	// Findings are what differed, the latest first.
	Findings []Finding `json:"findings"`
}

// Finding is an action that had other outputs in a new runner.
type Finding struct {
	When       time.Time `json:"when"`
	Digest     string    `json:"digest"`
	Instance   string    `json:"instance,omitempty"`
	Tenant     string    `json:"tenant,omitempty"`
	Mnemonic   string    `json:"mnemonic,omitempty"`
	Target     string    `json:"target,omitempty"`
	Args       []string  `json:"args,omitempty"`
	RunnerID   string    `json:"runner"`
	RunnerRuns int       `json:"runner_runs"`
	// Unsteady: it has other outputs each time, so that the runner is not to blame.
	Unsteady    bool     `json:"unsteady"`
	Differences []string `json:"differences"`
	// Recycled and Fresh are the ActionResults of the used and of the new runner.
	Recycled json.RawMessage `json:"recycled"`
	Fresh    json.RawMessage `json:"fresh"`
}

// What is the action in a few words.
func (f *Finding) What() string {
	return (&Action{Mnemonic: f.Mnemonic, Target: f.Target, Args: f.Args}).What()
}

// Audits tells what audits have found, the latest first.
type Audits interface {
	Report() (execution.AuditCounts, []*execution.Finding)
}

var _ Audits = (*execution.Auditor)(nil)

// audit is what audits have found. Where nothing is audited a page says so.
func (p *pages) audit(*http.Request) (*page, error) {
	one := &page{title: "Audit", section: "Audit", template: "audit.html"}
	if p.Audits == nil {
		one.data = (*Audit)(nil)
		one.json = notFound("nothing is audited here: start hearth with --audit-rate 0.01 to run one of a hundred recycled actions again")
		return one, nil
	}
	counts, found := p.Audits.Report()
	a := &Audit{Same: counts.Same, Leaks: counts.Leaks, Unsteady: counts.Unsteady, Failed: counts.Failed, Skipped: counts.Skipped, Findings: []Finding{}}
	for _, f := range found {
		finding, err := newFinding(f)
		if err != nil {
			return nil, err
		}
		a.Findings = append(a.Findings, finding)
	}
	one.data = a
	return one, nil
}

func newFinding(f *execution.Finding) (Finding, error) {
	found := Finding{
		When: f.When, Digest: digestText(f.Action), Instance: f.Instance, Tenant: f.Tenant, Mnemonic: f.Mnemonic, Target: f.Target, Args: f.Args,
		RunnerID: f.Runner.RunnerID, RunnerRuns: f.Runner.Runs, Unsteady: f.Unsteady, Differences: f.Differences,
	}
	for into, result := range map[*json.RawMessage]*repb.ActionResult{&found.Recycled: f.Recycled, &found.Fresh: f.Fresh} {
		text, err := protojson.Marshal(result)
		if err != nil {
			return found, err
		}
		*into = text
	}
	return found, nil
}
