package console

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/hearth-build/hearth/reapi/execution"
)

// Invocation is a build, or another use of a client, that had actions run here.
type Invocation struct {
	ID     string    `json:"id"`
	Tenant string    `json:"tenant,omitempty"`
	Begun  time.Time `json:"begun"`
	Ended  time.Time `json:"ended"`
	// Actions that ended, and those of them with results from the cache, in used and
	// in new runners, and that failed.
	Actions int `json:"actions"`
	Cached  int `json:"cached"`
	Warm    int `json:"warm"`
	Cold    int `json:"cold"`
	Failed  int `json:"failed"`
	// Misses were looked up in the action cache in vain.
	Misses int `json:"misses"`
	// Going is how many of its actions go on.
	Going int `json:"going"`
}

// Lasted is the time between the first action and the last.
func (i *Invocation) Lasted() time.Duration { return i.Ended.Sub(i.Begun) }

// Ran is how many were not answered from the cache.
func (i *Invocation) Ran() int { return i.Actions - i.Cached }

// URL of its page.
func (i *Invocation) URL() string { return "/invocations/" + url.PathEscape(i.ID) }

func (i *Invocation) add(f *execution.Finished) {
	i.Actions++
	switch {
	case f.Cached:
		i.Cached++
	case f.Runner.Warm:
		i.Warm++
	case f.Runner.RunnerID != "":
		i.Cold++
	}
	if f.Failed() {
		i.Failed++
	}
	if !f.Cached && lookedUp(f) {
		i.Misses++
	}
	i.span(f.Queued, f.Ended)
}

func (i *Invocation) span(begun, ended time.Time) {
	if i.Begun.IsZero() || begun.Before(i.Begun) {
		i.Begun = begun
	}
	if ended.After(i.Ended) {
		i.Ended = ended
	}
}

// invocations lists the builds, that which did something last at the top.
func (p *pages) invocations(r *http.Request) (*page, error) {
	runs, err := p.finished(r, execution.Filter{})
	if err != nil {
		return nil, err
	}
	going, err := p.unfinished(r, func(u *execution.Unfinished) bool { return u.Invocation != "" })
	if err != nil {
		return nil, err
	}
	type key struct{ tenant, id string }
	byID := map[key]*Invocation{}
	list := []*Invocation{}
	of := func(tenant, id string) *Invocation {
		k := key{tenant, id}
		if byID[k] == nil {
			byID[k] = &Invocation{ID: id, Tenant: tenant}
			list = append(list, byID[k])
		}
		return byID[k]
	}
	for _, f := range runs {
		if f.Invocation != "" {
			of(f.Tenant, f.Invocation).add(f)
		}
	}
	for _, u := range going {
		i := of(u.Tenant, u.Invocation)
		i.Going++
		i.span(u.Queued, time.Now())
	}
	slices.SortStableFunc(list, func(a, b *Invocation) int {
		return cmp.Or(b.Ended.Compare(a.Ended), cmp.Compare(a.ID, b.ID))
	})
	list = list[:min(len(list), maxRows)]
	return &page{title: "Invocations", section: "Invocations", template: "invocations.html", data: list}, nil
}

// Build is one invocation with its actions.
type Build struct {
	Invocation
	// Slowest, FailedOnes, ColdOnes and MissedOnes are its actions, as many as are
	// worth a look.
	Slowest    []*Action  `json:"slowest"`
	FailedOnes []*Action  `json:"failed_actions"`
	ColdOnes   []*Action  `json:"cold_actions"`
	MissedOnes []*Action  `json:"cache_misses"`
	GoingOnes  []*Ongoing `json:"going_actions"`
	// Phases are what its actions did, with the sum of the times.
	Phases []PhaseSum `json:"phases"`

	Picture *Picture `json:"-"`
}

// PhaseSum is how long actions were in a phase, all together.
type PhaseSum struct {
	Name    string        `json:"name"`
	Actions int           `json:"actions"`
	Sum     time.Duration `json:"sum_ns"`
	Longest time.Duration `json:"longest_ns"`
}

// worthALook is how many actions of a kind an invocation's page has.
const worthALook = 20

// invocation is one build.
func (p *pages) invocation(r *http.Request) (*page, error) {
	id := r.PathValue("id")
	if id == "" {
		return nil, notFound("no invocation is named: /invocations lists them")
	}
	runs, err := p.finished(r, execution.Filter{Invocation: id})
	if err != nil {
		return nil, err
	}
	going, err := p.unfinished(r, func(u *execution.Unfinished) bool { return u.Invocation == id })
	if err != nil {
		return nil, err
	}
	if len(runs) == 0 && len(going) == 0 {
		return nil, notFound("no action is remembered of an invocation with this ID: it ran nothing here, or that was long ago (--history)")
	}
	return &page{title: "Invocation " + short(id), section: "Invocations", template: "invocation.html", data: newBuild(id, runs, going)}, nil
}

func newBuild(id string, runs []*execution.Finished, going []*execution.Unfinished) *Build {
	b := &Build{Invocation: Invocation{ID: id}}
	for _, f := range runs {
		b.add(f)
		b.Tenant = f.Tenant
	}
	for _, u := range going {
		b.Going++
		b.Tenant = u.Tenant
		b.span(u.Queued, time.Now())
		if len(b.GoingOnes) < worthALook {
			b.GoingOnes = append(b.GoingOnes, newOngoing(u))
		}
	}
	slowest := slices.SortedStableFunc(slices.Values(runs), func(x, y *execution.Finished) int {
		return cmp.Compare(y.Ended.Sub(y.Queued), x.Ended.Sub(x.Queued))
	})
	some := func(is func(*execution.Finished) bool) []*Action {
		list := []*Action{}
		for _, f := range slowest {
			if len(list) < worthALook && is(f) {
				list = append(list, newAction(f))
			}
		}
		return list
	}
	b.Slowest = some(func(*execution.Finished) bool { return true })
	b.FailedOnes = some((*execution.Finished).Failed)
	b.ColdOnes = some(func(f *execution.Finished) bool { return f.Runner.RunnerID != "" && !f.Runner.Warm })
	b.MissedOnes = some(func(f *execution.Finished) bool { return !f.Cached && lookedUp(f) })
	b.Phases = sums(runs)
	b.Picture = newPicture(&b.Invocation, slowest, going)
	return b
}

// sums adds up the phases, that with the largest sum first.
func sums(runs []*execution.Finished) []PhaseSum {
	byName := map[string]*PhaseSum{}
	for _, f := range runs {
		for _, phase := range f.Phases {
			s := byName[phase.Name]
			if s == nil {
				s = &PhaseSum{Name: phase.Name}
				byName[phase.Name] = s
			}
			s.Actions++
			s.Sum += phase.Duration
			s.Longest = max(s.Longest, phase.Duration)
		}
	}
	list := []PhaseSum{}
	for _, s := range byName {
		list = append(list, *s)
	}
	slices.SortFunc(list, func(a, b PhaseSum) int { return cmp.Or(cmp.Compare(b.Sum, a.Sum), cmp.Compare(a.Name, b.Name)) })
	return list
}
