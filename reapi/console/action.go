package console

import (
	"net/http"
	"strings"
	"time"

	"github.com/hearth-build/hearth/reapi/execution"
)

// ActionPage is all that there is to say of an action.
type ActionPage struct {
	Digest, Function string
	Instance, Tenant string
	// What it is, in a few words.
	What string
	// Going are the runs that go on, Runs those that ended, the latest first.
	Going []*Ongoing
	Runs  []*Run
	// Details are what the store has of it.
	Details *Details
	// Reproduce are command lines with which it can be run again.
	Reproduce []Recipe
}

// Last is the run that ended last, or nil.
func (a *ActionPage) Last() *Run {
	if len(a.Runs) == 0 {
		return nil
	}
	return a.Runs[0]
}

// Hash is the digest without the size.
func (a *ActionPage) Hash() string {
	hash, _, _ := strings.Cut(a.Digest, "/")
	return hash
}

// Run is a run that ended, with what was different from the one before.
type Run struct {
	*Action

	// Differences in words; First: there is none before that is remembered.
	Differences []string
	First       bool
	// Line is the run's phases as a picture.
	Line []PhaseBar
}

// PhaseBar is a phase in the time line of a run.
type PhaseBar struct {
	Phase

	// Offset is when it began, from the start of the run on.
	Offset time.Duration
	// X and Width are in thousandths of the whole.
	X, Width float64
}

// line draws the phases of a run.
func line(phases []Phase, begun, ended time.Time) (bars []PhaseBar) {
	whole := max(ended.Sub(begun).Seconds(), 1e-6)
	const width, least = 1000, 2
	for _, p := range phases {
		offset := p.Start.Sub(begun)
		bars = append(bars, PhaseBar{
			Phase: p, Offset: offset,
			X: min(width-least, round(width*offset.Seconds()/whole)), Width: max(least, round(width*p.Duration.Seconds()/whole)),
		})
	}
	return bars
}

// Line is the phases of a run so far.
func (o *Ongoing) Line() []PhaseBar { return line(o.Phases, o.Queued, time.Now()) }

// compared adds to each run what was different in the one before it.
func compared(runs []*Action) (list []*Run) {
	for i, a := range runs {
		run := &Run{Action: a, First: i == len(runs)-1, Line: line(a.Phases, a.Queued, a.Ended)}
		if !run.First {
			run.Differences = differences(a, runs[i+1])
		}
		list = append(list, run)
	}
	return list
}

// differences says in what a run differs from one before.
func differences(now, before *Action) (words []string) {
	add := func(differ bool, text string) {
		if differ {
			words = append(words, text)
		}
	}
	add(now.How() != before.How() && !now.Cached && !before.Cached, now.How()+", before "+before.How())
	add(now.Outputs != "" && before.Outputs != "" && now.Outputs != before.Outputs, "other outputs")
	add(now.Printed != "" && before.Printed != "" && now.Printed != before.Printed, "printed something else")
	if now.Runner == nil || before.Runner == nil {
		return words
	}
	add(now.Runner.Warm && !before.Runner.Warm, "in a used runner, before in a new one")
	add(!now.Runner.Warm && before.Runner.Warm, "in a new runner, before in a used one")
	add(now.Runner.Warm && before.Runner.Warm && now.Runner.ID != before.Runner.ID, "in another runner")
	// What takes a moment varies anyway.
	is, was := now.PhaseNamed(phaseRun), before.PhaseNamed(phaseRun)
	const moment = 50 * time.Millisecond
	add(is > 2*was && is > moment, "its command took "+took(is)+", before "+took(was))
	add(was > 2*is && was > moment, "its command took "+took(is)+", before "+took(was))
	return words
}

// action is one action: as JSON its runs that ended.
func (p *pages) action(r *http.Request) (look, error) {
	digest := r.PathValue("digest")
	if digest == "" {
		return nil, notFound("no digest is given: /actions/HASH or /actions/HASH/SIZE")
	}
	var kept *Details // of the last look: what is in the store does not change
	return func() (*page, error) {
		runs, err := p.runsOf(r, digest)
		if err != nil {
			return nil, err
		}
		if wanted(r) == asJSON {
			if len(runs) == 0 {
				return nil, notFoundAction(digest)
			}
			p.describe(r, runs)
			return &page{data: runs}, nil
		}
		shown := &ActionPage{Runs: compared(runs)}
		if err := p.identifyAction(r, digest, shown); err != nil {
			return nil, err
		}
		if kept == nil || kept.of != shown.state() {
			kept = p.details(r, shown)
			kept.of = shown.state()
			shown.Details = kept
			kept.recipes = p.recipes(r, shown)
		}
		shown.Details, shown.Reproduce = kept, kept.recipes
		one := &page{title: "Action " + short(shown.Digest), section: "Actions", template: "action.html", data: shown}
		if len(runs) == 0 {
			one.json = notFoundAction(digest)
		}
		return one, nil
	}, nil
}

func notFoundAction(digest string) error {
	return notFound("none of the actions that ended lately has the digest \"" + digest + "\"")
}

// state changes when there is another result.
func (a *ActionPage) state() string {
	if last := a.Last(); last != nil {
		return last.Operation + last.Ended.String()
	}
	return ""
}

// identifyAction finds out which action is meant, from a run that ended or goes on.
func (p *pages) identifyAction(r *http.Request, digest string, shown *ActionPage) error {
	if last := shown.Last(); last != nil {
		shown.Digest, shown.Function, shown.Instance, shown.Tenant, shown.What = last.Digest, last.DigestFunction, last.Instance, last.Tenant, last.What()
	}
	going, err := p.unfinished(r, func(u *execution.Unfinished) bool {
		if shown.Digest != "" {
			return digestText(u.Action) == shown.Digest && u.Action.Function().String() == shown.Function
		}
		return strings.HasPrefix(digestText(u.Action), digest)
	})
	if err != nil {
		return err
	}
	for _, u := range going {
		o := newOngoing(u)
		if shown.Digest == "" {
			shown.Digest, shown.Function, shown.Instance, shown.Tenant, shown.What = o.Digest, u.Action.Function().String(), u.Instance, u.Tenant, o.What()
		}
		if o.Digest == shown.Digest {
			shown.Going = append(shown.Going, o)
		}
	}
	if shown.Digest == "" {
		return notFoundAction(digest)
	}
	return nil
}
