package console

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/hearth-build/hearth/reapi/execution"
	"github.com/hearth-build/hearth/runners"
)

// Runner is one container.
type Runner struct {
	ID    string        `json:"id"`
	State string        `json:"state"`
	Key   string        `json:"key"`
	Image string        `json:"image,omitempty"`
	Runs  int           `json:"runs"`
	Age   time.Duration `json:"age_ns"`
	Idle  time.Duration `json:"idle_ns,omitempty"`
	// Spare: it has run nothing yet.
	Spare bool `json:"spare,omitempty"`
	// ColdReason is why it was started.
	ColdReason string `json:"cold_reason,omitempty"`
	// Leaving is why it takes no further action, if it does not.
	Leaving string `json:"leaving,omitempty"`
	// What it held between actions when that was last looked at.
	MemoryBytes int64 `json:"memory_bytes"`
	DriftBytes  int64 `json:"drift_bytes"`
	DriftFiles  int   `json:"drift_files"`
	// CPU is the time that it had used then.
	CPU time.Duration `json:"cpu_ns"`
	// Now is the action that it runs.
	Now *Ongoing `json:"now,omitempty"`
	// Ended is how and why it ended, if it has.
	Ended *Ending `json:"ended,omitempty"`
	// Actions that it ran last, the latest first; they are left out of lists.
	Actions []*Action `json:"actions,omitempty"`
}

// Ending is how a runner ended, in a word, and why.
type Ending struct {
	When time.Time `json:"when"`
	How  string    `json:"how"`
	Why  string    `json:"why"`
}

// Memory is what it holds between actions.
func (r *Runner) Memory() string { return size(r.MemoryBytes) }

// Drift is how much its own file system has grown.
func (r *Runner) Drift() string { return size(r.DriftBytes) }

// KeyParts are the key's words, each a name and a value.
func (r *Runner) KeyParts() []string { return strings.Fields(r.Key) }

// ShortKey is the key without the ends of long values.
func (r *Runner) ShortKey() string {
	const most = 40
	parts := r.KeyParts()
	for i, part := range parts {
		if len(part) > most {
			parts[i] = strings.ToValidUTF8(part[:most], "") + "…"
		}
	}
	return strings.Join(parts, " ")
}

// Runners are the containers of a server.
type Runners interface {
	Departures
	// Snapshot describes them, the oldest first.
	Snapshot() []runners.RunnerInfo
	// Drain lets one take no further action, and Remove ends it at once.
	Drain(id string) error
	Remove(id string) error
}

// Departures are the runners that ended of late, the latest first.
type Departures interface{ Departed() []runners.Departed }

var _ Runners = (*runners.Pool)(nil)

func newRunner(r runners.RunnerInfo) *Runner {
	c := &Runner{
		ID: r.ID, State: r.State.String(), Key: r.Key, Image: r.Image, Runs: r.Runs, Age: r.Age.Round(time.Millisecond),
		Spare: r.Spare, ColdReason: r.ColdReason, Leaving: r.Dismissed,
		MemoryBytes: r.Footprint.Memory, DriftBytes: r.Footprint.Disk.Bytes, DriftFiles: r.Footprint.Disk.Files, CPU: r.Footprint.CPU,
	}
	if !r.IdleSince.IsZero() {
		c.Idle = time.Since(r.IdleSince).Round(time.Millisecond)
	}
	return c
}

// allRunners are those that are there, with what they run.
func (p *pages) allRunners() []*Runner {
	going := map[string]*Ongoing{}
	for _, u := range p.InFlight.Unfinished(func(u *execution.Unfinished) bool { return u.Runner.RunnerID != "" }) {
		going[u.Runner.RunnerID] = newOngoing(u)
	}
	list := []*Runner{}
	for _, info := range p.Options.Runners.Snapshot() {
		r := newRunner(info)
		if info.State == runners.Busy {
			r.Now = going[r.ID]
		}
		list = append(list, r)
	}
	return list
}

// departed are those that ended of late.
func (p *pages) departed() []*Runner {
	list := []*Runner{}
	for _, d := range p.Options.Runners.Departed() {
		r := newRunner(d.RunnerInfo)
		r.Ended = &Ending{When: d.When, How: d.How, Why: d.Why}
		list = append(list, r)
	}
	return list
}

// maxRunnerActions is how many actions of a runner are shown.
const maxRunnerActions = 20

// runnerLists are the runners that are there, and those that were.
type runnerLists struct{ Here, Gone []*Runner }

// runners lists the containers; as JSON those that are there alone.
func (p *pages) runners(*http.Request) (*page, error) {
	lists := runnerLists{Here: p.allRunners(), Gone: p.departed()}
	lists.Gone = lists.Gone[:min(len(lists.Gone), maxRows)]
	return &page{title: "Runners", section: "Runners", template: "runners.html", data: lists, json: lists.Here}, nil
}

// runner is all that is known of one that is there, or was.
func (p *pages) runner(r *http.Request) (*page, error) {
	found := p.findRunner(r.PathValue("id"))
	runs, err := p.finished(r, execution.Filter{Runner: r.PathValue("id"), Limit: maxRunnerActions})
	if err != nil {
		return nil, err
	}
	if found == nil {
		return nil, notFound(runners.ErrNoRunner.Error())
	}
	for _, f := range runs {
		found.Actions = append(found.Actions, newAction(f))
	}
	return &page{title: "Runner " + found.ID, section: "Runners", template: "runner.html", data: found}, nil
}

// findRunner returns nil if there is none with that ID, and none is remembered.
func (p *pages) findRunner(id string) *Runner {
	for _, list := range [][]*Runner{p.departed(), p.allRunners()} { // one that is removed is in both for a while
		for _, r := range list {
			if r.ID == id {
				return r
			}
		}
	}
	return nil
}

// orders does to a runner what an operator asks for.
func (p *pages) orders(do func(id string) error) http.HandlerFunc {
	return p.operatorsOnly(func(w http.ResponseWriter, r *http.Request) {
		secure(w.Header())
		id := r.PathValue("id")
		err := do(id)
		switch {
		case errors.Is(err, runners.ErrNoRunner):
			err = notFound(err.Error())
		case errors.Is(err, runners.ErrStarting):
			err = &problem{http.StatusConflict, err.Error()}
		case err == nil && wanted(r) == asPage: // a form on a page
			http.Redirect(w, r, "/runners", http.StatusSeeOther)
			return
		case err == nil:
			w.WriteHeader(http.StatusNoContent)
			return
		}
		p.fail(w, r, err)
	})
}
