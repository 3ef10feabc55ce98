package console

import (
	"fmt"
	"math"
	"net/http"
	"slices"
	"time"

	"github.com/hearth-build/hearth/reapi/execution"
)

// Status is what the overview shows.
type Status struct {
	Version  string    `json:"version"`
	Started  time.Time `json:"started"`
	Endpoint string    `json:"endpoint"`
	// Worker: the endpoint is that of a scheduler, which sends actions here.
	Worker  bool           `json:"worker,omitempty"`
	Load    execution.Load `json:"load"`
	Runners []*Runner      `json:"runners"`
	// Running and Waiting are the actions in flight.
	Running []*Ongoing `json:"running"`
	Waiting []*Ongoing `json:"waiting"`
	// Throughput of late.
	Throughput []*Throughput `json:"throughput"`

	// Remembered is how many runs there are to tell of, the oldest of which ended then.
	Remembered int       `json:"remembered"`
	Oldest     time.Time `json:"oldest,omitzero"`
	// Minutes are the last ones, the oldest first.
	Minutes []Minute `json:"minutes"`
}

// Source tells the present status: version, start, endpoint and load.
type Source interface{ Status() Status }

// Throughput is what ended in the last while.
type Throughput struct {
	Window  time.Duration `json:"window_ns"`
	Actions int           `json:"actions"`
	// Cached results, runs in used runners, in new ones, and failed ones.
	Cached int `json:"cached"`
	Warm   int `json:"warm"`
	Cold   int `json:"cold"`
	Failed int `json:"failed"`
	// Median and P95 are how long clients waited for them.
	Median time.Duration `json:"median_ns"`
	P95    time.Duration `json:"p95_ns"`

	took []time.Duration
}

// PerMinute is the rate.
func (t *Throughput) PerMinute() float64 { return float64(t.Actions) / t.Window.Minutes() }

// Name of the window.
func (t *Throughput) Name() string {
	if t.Window%time.Hour == 0 {
		return "hour"
	}
	if t.Window == time.Minute {
		return "minute"
	}
	return fmt.Sprintf("%.0f minutes", t.Window.Minutes())
}

// Ran is how many were not answered from the cache.
func (t *Throughput) Ran() int { return t.Actions - t.Cached }

func (t *Throughput) add(f *execution.Finished) {
	t.Actions++
	t.took = append(t.took, f.Ended.Sub(f.Queued))
	switch {
	case f.Cached:
		t.Cached++
	case f.Runner.Warm:
		t.Warm++
	case f.Runner.RunnerID != "":
		t.Cold++
	}
	if f.Failed() {
		t.Failed++
	}
}

func (t *Throughput) finish() {
	slices.Sort(t.took)
	t.Median, t.P95 = quantile(t.took, 0.5), quantile(t.took, 0.95)
}

// quantile is the nearest of the sorted values.
func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[max(0, int(math.Ceil(q*float64(len(sorted))))-1)]
}

// Minute counts what ended in it.
type Minute struct {
	Cached int `json:"cached"`
	Ran    int `json:"ran"`
	Failed int `json:"failed"`
}

// shownMinutes is how far back the overview looks.
const shownMinutes = 60

// tally counts the runs of late; they come the latest first.
func (s *Status) tally(runs []*execution.Finished, now time.Time) {
	s.Remembered, s.Minutes = len(runs), make([]Minute, shownMinutes)
	for _, window := range []time.Duration{time.Minute, 10 * time.Minute, time.Hour} {
		s.Throughput = append(s.Throughput, &Throughput{Window: window})
	}
	if len(runs) > 0 {
		s.Oldest = runs[len(runs)-1].Ended
	}
	for _, f := range runs {
		age := max(0, now.Sub(f.Ended))
		for _, t := range s.Throughput {
			if age < t.Window {
				t.add(f)
			}
		}
		if ago := int(age / time.Minute); ago < shownMinutes {
			s.Minutes[shownMinutes-1-ago].add(f)
		}
	}
	for _, t := range s.Throughput {
		t.finish()
	}
}

func (m *Minute) add(f *execution.Finished) {
	switch {
	case f.Failed():
		m.Failed++
	case f.Cached:
		m.Cached++
	default:
		m.Ran++
	}
}

// overview is what the server does.
func (p *pages) overview(r *http.Request) (*page, error) {
	s := p.Source.Status()
	s.Runners, s.Running, s.Waiting = p.allRunners(), []*Ongoing{}, []*Ongoing{}
	going, err := p.unfinished(r, func(*execution.Unfinished) bool { return true })
	if err != nil {
		return nil, err
	}
	for _, u := range going {
		o := newOngoing(u)
		if u.Wait != nil {
			s.Waiting = append(s.Waiting, o)
		} else {
			s.Running = append(s.Running, o)
		}
	}
	runs, err := p.finished(r, execution.Filter{})
	if err != nil {
		return nil, err
	}
	s.tally(runs, time.Now())
	return &page{title: "Overview", section: "Overview", template: "overview.html", data: s}, nil
}

// maxRows is how many rows of a table are shown where there may be thousands.
const maxRows = 100

// FirstWaiting are those of which the page tells.
func (s Status) FirstWaiting() []*Ongoing { return s.Waiting[:min(len(s.Waiting), maxRows)] }

// FirstRunning likewise.
func (s Status) FirstRunning() []*Ongoing { return s.Running[:min(len(s.Running), maxRows)] }

// States counts the runners by state.
func (s Status) States() map[string]int {
	states := map[string]int{}
	for _, r := range s.Runners {
		states[r.State]++
	}
	return states
}

// Bar is a minute in the picture of the last hour, in hundredths of its height.
type Bar struct {
	X                   int
	Ran, Cached, Failed int // heights
	Minute              Minute
	Ago                 int
}

// Chart is the picture of the last hour, scaled to its busiest minute.
func (s Status) Chart() (bars []Bar) {
	most := max(1, s.Busiest())
	for i, m := range s.Minutes {
		height := func(n int) int { return (100*n + most - 1) / most } // what is there is seen
		if m != (Minute{}) {
			bars = append(bars, Bar{X: 10 * i, Ran: height(m.Ran), Cached: height(m.Cached), Failed: height(m.Failed), Minute: m, Ago: len(s.Minutes) - 1 - i})
		}
	}
	return bars
}

// Busiest is the most actions that ended in a minute.
func (s Status) Busiest() int {
	most := 0
	for _, m := range s.Minutes {
		most = max(most, m.Ran+m.Cached+m.Failed)
	}
	return most
}

// RanY is where that part of the bar begins, from the top.
func (b Bar) RanY() int { return max(0, 100-b.Ran) }

// CachedY likewise.
func (b Bar) CachedY() int { return max(0, b.RanY()-b.Cached) }

// FailedY likewise.
func (b Bar) FailedY() int { return max(0, b.CachedY()-b.Failed) }

// Busy is the share in use of what there is least left of, in percent.
func (s Status) Busy() float64 { return 100 * s.Load.Busy }
