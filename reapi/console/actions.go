package console

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
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
	// Result is an ActionResult that the action cache does not have. It is left
	// out of lists.
	Result json.RawMessage `json:"result,omitempty"`
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

// Actions tells which runs ended.
type Actions interface {
	// Find returns those that the filter lets through, the latest first.
	Find(filter execution.Filter) []*execution.Finished
}

//go:embed actions.html
var actionsPage string

const (
	defaultActions = 100
	// maxRuns is how many runs of one action are shown.
	maxRuns = 20
)

// addActions serves the runs that ended at /actions, as a page to those who want
// one, else as JSON, and what is known of one at /actions/DIGEST.
func addActions(mux *http.ServeMux, actions Actions) error {
	page, err := template.New("actions").Parse(actionsPage)
	if err != nil {
		return err
	}
	mux.HandleFunc("GET /actions", func(w http.ResponseWriter, r *http.Request) {
		filter, err := filterOf(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		list := []*Action{}
		for _, f := range actions.Find(filter) {
			list = append(list, newAction(f))
		}
		if strings.Contains(r.Header.Get("Accept"), "text/html") {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			_ = page.Execute(w, list) // the client is gone if this fails
			return
		}
		writeJSON(w, list)
	})
	mux.HandleFunc("GET /actions/{digest...}", func(w http.ResponseWriter, r *http.Request) {
		runs, code, err := runsOf(actions, r)
		if err != nil {
			http.Error(w, err.Error(), code)
			return
		}
		writeJSON(w, runs)
	})
	return nil
}

func writeJSON(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(value) // the client is gone if this fails
}

// filterOf reads limit, invocation and failed.
func filterOf(r *http.Request) (execution.Filter, error) {
	query := r.URL.Query()
	caller, err := access.FromContext(r.Context())
	if err != nil {
		return execution.Filter{}, err
	}
	filter := execution.Filter{Limit: defaultActions, Invocation: query.Get("invocation"), Visible: visibleTo(caller)}
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
	return filter, errors.Join(errs...)
}

// runsOf returns the runs of one action, the latest first, with their results.
func runsOf(actions Actions, r *http.Request) (runs []*Action, code int, err error) {
	caller, err := access.FromContext(r.Context())
	if err != nil {
		return nil, http.StatusUnauthorized, err
	}
	digest := r.PathValue("digest")
	if digest == "" {
		return nil, http.StatusNotFound, errors.New("no digest is given: /actions/HASH or /actions/HASH/SIZE")
	}
	for _, f := range actions.Find(execution.Filter{Action: digest, Visible: visibleTo(caller)}) {
		if len(runs) == maxRuns {
			break
		}
		run := newAction(f)
		if run.Result, err = resultJSON(f.Result); err != nil {
			return nil, http.StatusInternalServerError, err
		}
		if len(runs) > 0 && runs[0].Digest != run.Digest {
			return nil, http.StatusConflict, fmt.Errorf("%q is the beginning of more than one digest, %s and %s among them; give more of it", digest, runs[0].Digest, run.Digest)
		}
		runs = append(runs, run)
	}
	if len(runs) == 0 {
		return nil, http.StatusNotFound, fmt.Errorf("none of the actions that ended lately has the digest %q", digest)
	}
	return runs, http.StatusOK, nil
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
	}
	for _, p := range f.Phases {
		a.Phases = append(a.Phases, Phase(p))
	}
	if r := f.Runner; r.RunnerID != "" {
		a.Runner = &ActionRunner{ID: r.RunnerID, Runs: r.Runs, Warm: r.Warm, ColdReason: r.ColdReason, WokenFrom: r.WokenFrom.String()}
	}
	return a
}
