package console

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/reapi/access"
	"github.com/hearth-build/hearth/reapi/execution"
	"github.com/hearth-build/hearth/runners"
)

// Action is a run of an action that ended.
type Action struct {
	Digest         string `json:"digest"` // hash/size
	DigestFunction string `json:"digest_function"`
	Instance       string `json:"instance"`
	Tenant         string `json:"tenant,omitempty"`
	Invocation     string `json:"invocation,omitempty"`
	Mnemonic       string `json:"mnemonic,omitempty"`
	Target         string `json:"target,omitempty"`
	// Args are the command's first arguments.
	Args   []string  `json:"args,omitempty"`
	Queued time.Time `json:"queued"`
	Ended  time.Time `json:"ended"`
	Phases []Phase   `json:"phases,omitempty"`

	Cached   bool   `json:"cached"`
	ExitCode int32  `json:"exit_code"`
	Status   string `json:"status"`
	Error    string `json:"error,omitempty"`
	Message  string `json:"message,omitempty"`

	Runner *ActionRunner `json:"runner,omitempty"`
	// Outputs and Printed are the same in runs that made, and that printed, the same.
	Outputs   string `json:"outputs,omitempty"`
	Printed   string `json:"printed,omitempty"`
	Operation string `json:"operation,omitempty"`
	Trace     string `json:"trace,omitempty"`
	// Result is an ActionResult that the action cache does not have. It is left
	// out of lists.
	Result json.RawMessage `json:"result,omitempty"`
	// Details are what the store has; they are left out of lists, too.
	Details *Described `json:"details,omitempty"`
}

// Phase is a part of a run.
type Phase struct {
	Name     string        `json:"name"`
	Start    time.Time     `json:"start"`
	Duration time.Duration `json:"duration_ns"`
}

// ActionRunner is the container that an action ran in.
type ActionRunner struct {
	ID string `json:"id"`
	// Runs counts the runner's actions, this one included.
	Runs       int    `json:"runs"`
	Warm       bool   `json:"warm"`
	ColdReason string `json:"cold_reason,omitempty"`
	WokenFrom  string `json:"woken_from"`
}

// Failed reports whether the run ended otherwise than its client hoped.
func (a *Action) Failed() bool { return a.Error != "" || a.ExitCode != 0 }

// Took is how long the client waited for it.
func (a *Action) Took() time.Duration { return a.Ended.Sub(a.Queued).Round(100 * time.Microsecond) }

// What is the action in a few words.
func (a *Action) What() string {
	if words := strings.TrimSpace(a.Mnemonic + " " + a.Target); words != "" {
		return words
	}
	return strings.Join(a.Args, " ")
}

// How it ended, in a word or two.
func (a *Action) How() string {
	switch {
	case a.Error != "":
		return a.Status
	case a.Cached:
		return "cached"
	default:
		return "exit " + strconv.Itoa(int(a.ExitCode))
	}
}

// Class is how it ended, for a picture: failed, cached, warm or cold.
func (a *Action) Class() string {
	switch {
	case a.Failed():
		return "failed"
	case a.Cached:
		return "cached"
	case a.Runner != nil && !a.Runner.Warm:
		return "cold"
	default:
		return "warm"
	}
}

// Light is the colour of its result, which says nothing of the runner.
func (a *Action) Light() string {
	if class := a.Class(); class != "cold" {
		return class
	}
	return "warm"
}

// URL of its page.
func (a *Action) URL() string { return "/actions/" + a.Digest }

// PhaseNamed is how long it was in a phase, all times together.
func (a *Action) PhaseNamed(name string) time.Duration {
	var sum time.Duration
	for _, p := range a.Phases {
		if p.Name == name {
			sum += p.Duration
		}
	}
	return sum
}

const (
	defaultActions = 100
	// maxRuns is how many runs of one action are shown.
	maxRuns = 20
	// maxListed is how many actions a page lists; as JSON there is no limit.
	maxListed = 1000
)

// actionList is a list of actions, with what was asked for.
type actionList struct {
	Actions []*Action
	execution.Filter
}

// actions lists the runs that ended.
func (p *pages) actions(r *http.Request) (*page, error) {
	filter, err := filterOf(r)
	if err != nil {
		return nil, err
	}
	if wanted(r) != asJSON && (filter.Limit == 0 || filter.Limit > maxListed) {
		filter.Limit = maxListed
	}
	list := []*Action{}
	for _, f := range p.Actions.Find(filter) {
		list = append(list, newAction(f))
	}
	return &page{title: "Actions", section: "Actions", template: "actions.html", data: actionList{list, filter}, json: list}, nil
}

// filterOf reads limit, invocation, action, runner and failed.
func filterOf(r *http.Request) (execution.Filter, error) {
	query := r.URL.Query()
	caller, err := access.FromContext(r.Context())
	if err != nil {
		return execution.Filter{}, err
	}
	filter := execution.Filter{
		Limit: defaultActions, Invocation: query.Get("invocation"), Action: query.Get("action"), Runner: query.Get("runner"), Visible: visibleTo(caller),
	}
	var errs []error
	if text := query.Get("limit"); text != "" {
		limit, err := strconv.Atoi(text)
		if err != nil || limit < 0 {
			errs = append(errs, fmt.Errorf("limit=%q: it must be a number, of which 0 means all", text))
		}
		filter.Limit = limit
	}
	if text := query.Get("failed"); text != "" {
		failed, err := strconv.ParseBool(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("failed=%q: it must be true or false", text))
		}
		filter.Failed = failed
	}
	if len(errs) > 0 {
		return filter, &problem{http.StatusBadRequest, errors.Join(errs...).Error()}
	}
	return filter, nil
}

// runsOf returns the runs of one action that may be seen, the latest first, with their
// results. There may be none.
func (p *pages) runsOf(r *http.Request, digest string) ([]*Action, error) {
	found, err := p.finished(r, execution.Filter{Action: digest})
	if err != nil {
		return nil, err
	}
	var runs []*Action
	for _, f := range found {
		if len(runs) == maxRuns {
			break
		}
		run := newAction(f)
		if run.Result, err = resultJSON(f.Result); err != nil {
			return nil, err
		}
		if len(runs) > 0 && runs[0].Digest != run.Digest {
			return nil, &problem{http.StatusConflict, fmt.Sprintf("%q is the beginning of more than one digest, %s and %s among them; give more of it", digest, runs[0].Digest, run.Digest)}
		}
		runs = append(runs, run)
	}
	return runs, nil
}

func resultJSON(serialised []byte) (json.RawMessage, error) {
	if serialised == nil {
		return nil, nil
	}
	result := &repb.ActionResult{}
	if err := proto.Unmarshal(serialised, result); err != nil {
		return nil, fmt.Errorf("read a result that was kept: %w", err)
	}
	return protojson.Marshal(result)
}

func digestText(d cas.Digest) string { return fmt.Sprintf("%s/%d", d.Hash(), d.Size()) }

func newAction(f *execution.Finished) *Action {
	a := &Action{
		Digest:         digestText(f.Action),
		DigestFunction: f.Action.Function().String(),
		Instance:       f.Instance, Tenant: f.Tenant, Invocation: f.Invocation, Mnemonic: f.Mnemonic, Target: f.Target,
		Args: f.Args, Queued: f.Queued, Ended: f.Ended,
		Cached: f.Cached, ExitCode: f.ExitCode, Status: f.Status, Error: f.Error, Message: f.Message,
		Outputs: f.Outputs, Printed: f.Printed, Operation: f.Operation, Trace: f.Trace,
	}
	a.Phases, a.Runner = newPhases(f.Phases), newActionRunner(f.Runner)
	return a
}

func newPhases(phases []execution.Phase) []Phase {
	var list []Phase
	for _, p := range phases {
		list = append(list, Phase(p))
	}
	return list
}

// newActionRunner is nil for an action that had none.
func newActionRunner(r runners.LeaseInfo) *ActionRunner {
	if r.RunnerID == "" {
		return nil
	}
	return &ActionRunner{ID: r.RunnerID, Runs: r.Runs, Warm: r.Warm, ColdReason: r.ColdReason, WokenFrom: r.WokenFrom.String()}
}
