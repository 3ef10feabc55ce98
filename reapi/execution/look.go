package execution

import (
	"iter"
	"log/slog"
	"maps"
	"time"
)

// How those who wait for long are told why.
const (
	// lookInterval is how often it is looked who waits.
	lookInterval = time.Second
	// longWait is what counts as long.
	longWait = 5 * time.Second
	// maxLogged bounds the lines that are logged at a time.
	maxLogged = 10
)

// waiter is a ticket that waits for long.
type waiter struct {
	*ticket
	wait  Wait
	fresh bool // it is told so for the first time
}

// look tells those who wait for long why, and looks again as long as anybody
// waits. It is called by a timer.
func (s *Slots) look() {
	s.mu.Lock()
	begin := time.Now()
	waiters := s.waiters(begin)
	if s.waiting() > 0 {
		// With very many it takes a while, which must not become a burden.
		s.watch.Reset(max(lookInterval, 100*time.Since(begin)))
	} else {
		s.watch = nil
	}
	s.mu.Unlock()
	fresh := 0
	for _, w := range waiters {
		w.waits(w.wait)
		if !w.fresh {
			continue
		}
		if fresh++; fresh <= maxLogged {
			s.opts.Logger.Info("action waits", w.attributes()...)
		}
	}
	if fresh > maxLogged {
		s.opts.Logger.Info("more actions wait", "count", fresh-maxLogged)
	}
}

func (w *waiter) attributes() []any {
	action := w.task.ActionDigest.Name()
	if w.task.ActionDigest.IsZero() { // it waits for room alone
		action = w.task.Operation
	}
	return []any{
		slog.String("action", action), slog.String("invocation", w.task.Invocation),
		slog.String("reason", w.wait.String()), slog.Int("position", w.wait.Position),
	}
}

// waiters finds who has waited for long at the time now.
func (s *Slots) waiters(now time.Time) []waiter {
	var found []waiter
	for t, wait := range s.line() {
		if now.Sub(t.since) >= longWait {
			found = append(found, waiter{t, wait, !t.late})
			t.late = true
		}
	}
	return found
}

// line goes through those who wait, in the order in which they would be admitted if
// nothing changed. The Slots are locked.
func (s *Slots) line() iter.Seq2[*ticket, Wait] {
	return func(yield func(*ticket, Wait) bool) {
		position := 0
		type invocation struct{ tenant, name string }
		before := map[invocation]bool{}
		visit := func(t *ticket, p *place) bool {
			position++
			wait := Wait{position, len(before), s.free.shortage(t.needs)}
			before[invocation{p.tenant, p.invocation}] = true
			return yield(t, wait)
		}
		if s.next != nil && !visit(s.next, s.next.turn) {
			return
		}
		for p := range s.queue.all() {
			if !visit(p.ticket, p) {
				return
			}
		}
	}
}

// waits says of all who wait why, and where they stand.
func (s *Slots) waits() map[*ticket]Wait {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Collect(s.line())
}
