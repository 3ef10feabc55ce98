package console

import (
	"errors"
	"net/http"
	"time"

	"github.com/docker/go-units"

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
	// Actions that it ran last, the latest first; they are left out of lists.
	Actions []*Action `json:"actions,omitempty"`
}

// Memory is what it holds between actions.
func (r *Runner) Memory() string { return units.BytesSize(float64(r.MemoryBytes)) }

// Drift is how much its own file system has grown.
func (r *Runner) Drift() string { return units.BytesSize(float64(r.DriftBytes)) }

// Runners are the containers of a server.
type Runners interface {
	// Snapshot describes them, the oldest first.
	Snapshot() []runners.RunnerInfo
	// Drain lets one take no further action, and Remove ends it at once.
	Drain(id string) error
	Remove(id string) error
}

var _ Runners = (*runners.Pool)(nil)

func newRunner(r runners.RunnerInfo) *Runner {
	c := &Runner{
		ID: r.ID, State: r.State.String(), Key: r.Key, Image: r.Image, Runs: r.Runs, Age: r.Age.Round(time.Millisecond),
		Spare: r.Spare, ColdReason: r.ColdReason, Leaving: r.Dismissed,
		MemoryBytes: r.Footprint.Memory, DriftBytes: r.Footprint.Disk.Bytes, DriftFiles: r.Footprint.Disk.Files,
	}
	if !r.IdleSince.IsZero() {
		c.Idle = time.Since(r.IdleSince).Round(time.Millisecond)
	}
	return c
}

func allRunners(pool Runners) []*Runner {
	list := []*Runner{}
	for _, r := range pool.Snapshot() {
		list = append(list, newRunner(r))
	}
	return list
}

// maxRunnerActions is how many actions of a runner are shown.
const maxRunnerActions = 20

// addRunners serves the runners at /runners, what is known of one at /runners/ID,
// and takes orders by POST at /runners/ID/drain and /runners/ID/remove.
func addRunners(mux *http.ServeMux, pool Runners, actions Actions) {
	mux.HandleFunc("GET /runners", forOperators(func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, allRunners(pool))
	}))
	mux.HandleFunc("GET /runners/{id}", forOperators(func(w http.ResponseWriter, r *http.Request) {
		for _, info := range pool.Snapshot() {
			if info.ID != r.PathValue("id") {
				continue
			}
			found := newRunner(info)
			for _, f := range actions.Find(execution.Filter{Runner: info.ID, Limit: maxRunnerActions}) {
				found.Actions = append(found.Actions, newAction(f))
			}
			writeJSON(w, found)
			return
		}
		http.Error(w, runners.ErrNoRunner.Error(), http.StatusNotFound)
	}))
	mux.HandleFunc("POST /runners/{id}/drain", forOperators(orders(pool.Drain)))
	mux.HandleFunc("POST /runners/{id}/remove", forOperators(orders(pool.Remove)))
}

// orders does to a runner what an operator asks for.
func orders(do func(id string) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		err := do(r.PathValue("id"))
		switch {
		case errors.Is(err, runners.ErrNoRunner):
			http.Error(w, err.Error(), http.StatusNotFound)
		case errors.Is(err, runners.ErrStarting):
			http.Error(w, err.Error(), http.StatusConflict)
		case err != nil:
			http.Error(w, err.Error(), http.StatusInternalServerError)
		default:
			w.WriteHeader(http.StatusNoContent)
		}
	}
}
