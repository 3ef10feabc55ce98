package runners

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/docker/go-units"
)

// Footprint is what a runner has gathered since it was started, and holds between
// actions.
type Footprint struct {
	// Memory of its processes and of its file systems in memory, in bytes.
	Memory int64
	// Disk is what its own file system has beside the image.
	Disk Drift
	// CPU is the time that it used; zero where the policy of pauses does not ask.
	CPU time.Duration
}

// Limits are what a runner may come to before it is replaced. Zero fields: any.
type Limits struct {
	Actions int
	Age     time.Duration
	Memory  int64
	Disk    int64
}

func (l Limits) validate() error {
	if l.Actions < 0 || l.Age < 0 || l.Memory < 0 || l.Disk < 0 {
		return fmt.Errorf("Limits are %+v: none can be negative", l) //nolint:staticcheck // the name of a field
	}
	return nil
}

// spent says in which way a runner has come to its limits, or "".
func (l Limits) spent(r *runner, now time.Time) string {
	over := func(what string, is, most int64, flag string) string {
		return fmt.Sprintf("it holds %s of %s, more than %s (%s)", units.BytesSize(float64(is)), what, units.BytesSize(float64(most)), flag)
	}
	switch held := r.footprint; {
	case r.dismissed != "":
		return r.dismissed
	case l.Actions > 0 && r.runs >= l.Actions:
		return fmt.Sprintf("it has run %d actions (--max-runner-actions)", r.runs)
	case l.Age > 0 && now.Sub(r.created) >= l.Age:
		return fmt.Sprintf("it is older than %v (--max-runner-age)", l.Age)
	case l.Memory > 0 && held.Memory > l.Memory:
		return over("memory", held.Memory, l.Memory, "--max-runner-memory")
	case l.Disk > 0 && held.Disk.Bytes > l.Disk:
		return over("disk", held.Disk.Bytes, l.Disk, "--max-runner-disk")
	default:
		return ""
	}
}

// footprintEvery is how much time there is between two looks at what a runner
// holds, which takes as long as its files are many.
const footprintEvery = 10 * time.Second

// weighLocked has a look at what a runner holds that has just become idle, off the
// path of actions: one may take it meanwhile.
func (p *Pool) weighLocked(r *runner, now time.Time) {
	if r.weighing || now.Sub(r.weighed) < footprintEvery {
		return
	}
	r.weighing = true
	period := r.period
	p.spawnLocked(func() {
		if err := p.weigh(r, period); err != nil {
			// Nothing is wrong with the runner: it is looked at again.
			p.log.Warn("what a runner holds could not be measured", "runner", r.id, "error", err)
		}
	})
}

func (p *Pool) weigh(r *runner, period int) error {
	ctx, cancel := context.WithTimeout(p.work(), lookTimeout)
	defer cancel()
	memory, err := r.instance.Memory(ctx)
	p.mu.Lock()
	if err == nil && r.period == period { // else it is an action's
		r.footprint.Memory = memory
	}
	p.mu.Unlock()
	drift, driftErr := r.instance.Drift(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	r.weighing, r.weighed = false, time.Now()
	if r.state == Removed {
		return nil // which may be why it failed
	}
	if driftErr == nil {
		r.footprint.Disk = drift
	}
	if r.state == Idle || r.state == Paused {
		p.replaceIfSpentLocked(r, time.Now())
	}
	return errors.Join(err, driftErr)
}

// replaceIfSpentLocked retires a runner that has come to its limits.
func (p *Pool) replaceIfSpentLocked(r *runner, now time.Time) bool {
	why := p.opts.Limits.spent(r, now)
	if why == "" {
		return false
	}
	p.retireLocked(r, ending{retired, why})
	return true
}

// Drain lets a runner take no further action: it is removed when its present one,
// if any, has ended.
func (p *Pool) Drain(id string) error {
	return p.dismiss(id, "it was drained by hand", false)
}

// Remove removes a runner at once. An action that runs in it gets another one.
func (p *Pool) Remove(id string) error {
	return p.dismiss(id, "it was removed by hand", true)
}

func (p *Pool) dismiss(id, why string, atOnce bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	r, ok := p.runners[id]
	if !ok || r.state == Removed {
		return fmt.Errorf("%w: %q", ErrNoRunner, id)
	}
	if r.state == Starting && atOnce {
		return fmt.Errorf("%w: drain %s, or try again in a moment", ErrStarting, id)
	}
	r.dismissed = why
	if atOnce || r.state == Idle || r.state == Paused {
		p.retireLocked(r, ending{retired, why})
	}
	return nil
}
