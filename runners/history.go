package runners

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// verb says in one word how a runner ended.
type verb string

const (
	evicted   verb = "evicted"
	expired   verb = "expired"
	discarded verb = "discarded"
	removed   verb = "removed"
	retired   verb = "retired"
)

// ending is why a runner ended.
type ending struct {
	verb verb
	why  string
}

// gone is what is remembered of a runner.
type gone struct {
	info RunnerInfo
	key  Key
	when time.Time
	ending
}

// history remembers the last runners that ended.
type history struct {
	past [64]gone
	next int
}

func (h *history) add(g gone) {
	h.past[h.next%len(h.past)] = g
	h.next++
}

// last returns what is known of the last one with that key.
func (h *history) last(key Key) (gone, bool) {
	for i := h.next - 1; i >= 0 && i >= h.next-len(h.past); i-- {
		if g := h.past[i%len(h.past)]; g.key == key {
			return g, true
		}
	}
	return gone{}, false
}

// all returns what is remembered, the latest first.
func (h *history) all() []gone {
	var found []gone
	for i := h.next - 1; i >= 0 && i >= h.next-len(h.past); i-- {
		found = append(found, h.past[i%len(h.past)])
	}
	return found
}

// Departed describes a runner that has ended.
type Departed struct {
	// RunnerInfo as it was then.
	RunnerInfo
	When time.Time
	// How it ended, in the words of Cold.Kind, and Why.
	How, Why string
}

// Departed describes the last runners that ended, the latest first: some of those that
// take several actions, and some of the others.
func (p *Pool) Departed() []Departed {
	p.mu.Lock()
	all := append(p.history.all(), p.singles.all()...)
	p.mu.Unlock()
	slices.SortStableFunc(all, func(a, b gone) int { return b.when.Compare(a.when) })
	found := make([]Departed, 0, len(all))
	for _, g := range all {
		d := Departed{RunnerInfo: g.info, When: g.when, How: string(g.verb), Why: g.why}
		d.Key = g.key.String()
		found = append(found, d)
	}
	return found
}

// Cold is why an action gets a new runner, in words and as one of few kinds, for
// those who count: a Cold constant, or the word for how the last runner of the key
// ended (evicted, expired, discarded, removed, retired).
type Cold struct{ Kind, Reason string }

// The kinds that are no ends of runners.
const (
	ColdNotRecycled = "not recycled" // the action did not ask for a used one
	ColdBusy        = "busy"         // none of the key is idle
	ColdOtherKey    = "other key"    // there are some, all of other keys
	ColdFirst       = "first"        // there are none
)

// coldLocked says why an action gets a new runner.
func (p *Pool) coldLocked(w want) Cold {
	if !w.recycle {
		return Cold{ColdNotRecycled, "not recycled: recycle-runner is not true"}
	}
	busy := 0
	for _, r := range p.runners {
		if r.key == w.key && r.state != Removed {
			busy++
		}
	}
	if busy > 0 {
		return Cold{ColdBusy, fmt.Sprintf("no runner of this key is idle (busy or starting: %d)", busy)}
	}
	if g, ok := p.history.last(w.key); ok {
		return Cold{string(g.verb), fmt.Sprintf("%s was %s %v ago: %s", g.info.ID, g.verb, time.Since(g.when).Round(time.Second), g.why)}
	}
	if r, diff := p.nearestLocked(w.key); r != nil {
		return Cold{ColdOtherKey, fmt.Sprintf("nearest runner %s differs in %s", r.id, diff)}
	}
	return Cold{ColdFirst, "first action of this key"}
}

// nearestLocked finds the runner whose key differs least. What other tenants
// run is not told.
func (p *Pool) nearestLocked(key Key) (nearest *runner, diff string) {
	least := 0
	for _, r := range p.runners {
		if !r.recycle || r.state == Removed || r.key.tenant != key.tenant {
			continue
		}
		d := key.Diff(r.key)
		parts := strings.Count(d, ", ") + 1
		if nearest == nil || parts < least || (parts == least && r.created.After(nearest.created)) {
			nearest, diff, least = r, d, parts
		}
	}
	return nearest, diff
}
