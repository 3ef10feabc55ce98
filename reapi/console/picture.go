package console

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/hearth-build/hearth/reapi/execution"
)

// Picture is a time line of actions: one bar for each, in as few lanes as they need
// without covering each other.
type Picture struct {
	Bars   []Stroke
	Ticks  []Tick
	Height int
	// Left is how many of the shortest actions are left out.
	Left int
}

// Stroke is a bar: an action from when it was admitted to its end, with what it waited
// before.
type Stroke struct {
	X, Wait, Width float64
	Y              int
	// Class is how it ended or goes on: cached, warm, cold, failed or going.
	Class, Title, Digest string
}

// Tick is a mark on the axis of time.
type Tick struct {
	X    float64
	Text string
}

const (
	pictureWidth = 1000
	laneHeight   = 12
	axisHeight   = 20
	// maxBars is how many actions a picture has, and maxLanes how many at a time.
	maxBars  = 1000
	maxLanes = 60
	// leastWidth is what can still be seen.
	leastWidth = 1.5
)

// span is an action on its way into a picture.
type span struct {
	queued, begun, ended time.Time
	class, title, digest string
}

// newPicture draws the longest of the actions; runs come the longest first.
func newPicture(of *Invocation, runs []*execution.Finished, going []*execution.Unfinished) *Picture {
	p := &Picture{}
	var spans []span
	for _, u := range going {
		o := newOngoing(u)
		spans = append(spans, span{u.Queued, admittedAt(o.Phases, u.Queued, time.Now()), time.Now(), "going", o.What() + " (" + o.Step + ")", o.Digest})
	}
	for _, f := range runs {
		if len(spans) == maxBars {
			break
		}
		a := newAction(f)
		title := a.What() + ": " + a.How() + ", " + took(f.Ended.Sub(f.Queued))
		spans = append(spans, span{f.Queued, admittedAt(a.Phases, f.Queued, f.Ended), f.Ended, a.Class(), title, a.Digest})
	}
	p.Left = len(runs) + len(going) - len(spans)
	p.draw(of, spans)
	p.mark(of.Lasted())
	return p
}

// admittedAt is when an action was past the queue.
func admittedAt(phases []Phase, queued, ended time.Time) time.Time {
	for _, phase := range phases {
		switch phase.Name {
		case "accepted", cacheLookup, "queued":
		default:
			return phase.Start
		}
	}
	if len(phases) > 0 && phases[len(phases)-1].Name == "queued" {
		return ended
	}
	return queued
}

func (p *Picture) draw(of *Invocation, spans []span) {
	slices.SortFunc(spans, func(a, b span) int { return cmp.Or(a.queued.Compare(b.queued), a.ended.Compare(b.ended)) })
	scale := pictureWidth / max(of.Lasted().Seconds(), 1e-6)
	at := func(t time.Time) float64 { return round(t.Sub(of.Begun).Seconds() * scale) }
	var lanes []time.Time // when each is free
	for _, s := range spans {
		lane := slices.IndexFunc(lanes, func(free time.Time) bool { return !free.After(s.queued) })
		if lane < 0 && len(lanes) == maxLanes {
			p.Left++
			continue
		}
		if lane < 0 {
			lane = len(lanes)
			lanes = append(lanes, time.Time{})
		}
		lanes[lane] = s.ended
		x := min(at(s.queued), pictureWidth-leastWidth)
		begun := max(x, min(at(s.begun), pictureWidth-leastWidth))
		p.Bars = append(p.Bars, Stroke{
			X: begun, Wait: x, Width: max(leastWidth, round(at(s.ended)-begun)), Y: axisHeight + lane*laneHeight,
			Class: s.class, Title: s.title, Digest: s.digest,
		})
	}
	p.Height = axisHeight + max(1, len(lanes))*laneHeight
}

func round(x float64) float64 { return math.Round(x*10) / 10 }

// mark puts some six marks at round times.
func (p *Picture) mark(lasted time.Duration) {
	step := time.Millisecond
	for _, factor := range []time.Duration{2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 30_000, 60_000, 120_000, 300_000, 600_000, 1_800_000, 3_600_000, 7_200_000, 21_600_000, 86_400_000} {
		if lasted/step <= 7 {
			break
		}
		step = factor * time.Millisecond
	}
	for t := time.Duration(0); t <= lasted && len(p.Ticks) < 20; t += step {
		p.Ticks = append(p.Ticks, Tick{X: round(pictureWidth * t.Seconds() / max(lasted.Seconds(), 1e-6)), Text: tickText(t)})
	}
	if len(p.Ticks) > 0 {
		p.Ticks[0].Text = "0"
	}
}

// tickText is short: all are round.
func tickText(t time.Duration) string {
	switch {
	case t < time.Second:
		return fmt.Sprintf("%d ms", t.Milliseconds())
	case t < time.Minute:
		return fmt.Sprintf("%g s", t.Seconds())
	case t < time.Hour:
		return fmt.Sprintf("%g min", t.Minutes())
	default:
		return fmt.Sprintf("%g h", t.Hours())
	}
}

// Waited is how long the line before the bar is, and Middle where it is.
func (s Stroke) Waited() float64 { return max(0, round(s.X-s.Wait)) }

// Middle of the bar.
func (s Stroke) Middle() int { return s.Y + 4 }
