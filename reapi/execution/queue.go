package execution

import (
	"cmp"
	"container/list"
	"iter"
	"slices"
)

// queue orders waiting tickets: the most urgent priority first; within it
// tenants take turns, and each tenant's invocations take turns within that;
// within an invocation it is first come, first served. So whoever sends
// thousands waits for them alone. It is a pure data structure; its owner locks.
type queue struct {
	levels   []*level // of tickets; the most urgent first
	tickets  int
	arrivals uint64
}

// level is what waits with one priority.
type level struct {
	priority int32
	tenants  ring[*tenantLine]
}

// tenantLine is what waits for one tenant.
type tenantLine struct {
	invocations ring[*line]
}

// line is what waits for one invocation, the first to be served in front.
type line struct {
	places list.List // of *place
}

func (q *queue) len() int { return q.tickets }

// add puts a ticket into the lines of all its places.
func (q *queue) add(t *ticket) {
	t.inLine = true
	q.tickets++
	for _, p := range t.places {
		q.insert(t, p)
	}
}

// join adds a place to a ticket.
func (q *queue) join(t *ticket, p *place) {
	q.arrivals++
	p.arrival = q.arrivals
	t.places = append(t.places, p)
	if t.inLine {
		q.insert(t, p)
	}
}

// leave takes a place from a ticket, unless it is the last: a run that nobody
// wants any more is given up, which takes its ticket out of the queue.
func (q *queue) leave(t *ticket, p *place) {
	if len(t.places) == 1 {
		return
	}
	t.places = slices.DeleteFunc(t.places, func(o *place) bool { return o == p })
	if t.inLine {
		q.unlink(p)
	}
}

// remove takes a ticket out of all lines.
func (q *queue) remove(t *ticket) {
	t.inLine = false
	q.tickets--
	for _, p := range t.places {
		q.unlink(p)
	}
}

// insert puts a place into its line, by the order of arrival: nearly always at
// the end.
func (q *queue) insert(t *ticket, p *place) {
	p.ticket = t
	p.level = q.level(p.priority)
	p.tenantAt = p.level.tenants.seat(p.tenant, func() *tenantLine { return &tenantLine{} })
	p.lineAt = memberOf[*tenantLine](p.tenantAt).invocations.seat(p.invocation, func() *line { return &line{} })
	places := &memberOf[*line](p.lineAt).places
	before := places.Back()
	for before != nil && before.Value.(*place).arrival > p.arrival {
		before = before.Prev()
	}
	if before == nil {
		p.at = places.PushFront(p)
	} else {
		p.at = places.InsertAfter(p, before)
	}
}

// level returns the level of a priority, a new one if there is none.
func (q *queue) level(priority int32) *level {
	i, found := slices.BinarySearchFunc(q.levels, priority, func(l *level, p int32) int { return cmp.Compare(l.priority, p) })
	if !found {
		q.levels = slices.Insert(q.levels, i, &level{priority: priority})
	}
	return q.levels[i]
}

// unlink takes a place out of its line, and out of the rings what is empty then.
func (q *queue) unlink(p *place) {
	places := &memberOf[*line](p.lineAt).places
	places.Remove(p.at)
	if places.Len() > 0 {
		return
	}
	invocations := &memberOf[*tenantLine](p.tenantAt).invocations
	invocations.remove(p.lineAt)
	if invocations.len() > 0 {
		return
	}
	p.level.tenants.remove(p.tenantAt)
	if p.level.tenants.len() == 0 {
		q.levels = slices.DeleteFunc(q.levels, func(l *level) bool { return l == p.level })
	}
}

// take takes out the ticket of a place, whose tenant and invocation have had
// their turn with that.
func (q *queue) take(p *place) *ticket {
	p.level.tenants.order.MoveToBack(p.tenantAt)
	memberOf[*tenantLine](p.tenantAt).invocations.order.MoveToBack(p.lineAt)
	p.ticket.turn = p
	q.remove(p.ticket)
	return p.ticket
}

// putBack undoes take: it is the ticket's turn again, once nothing is more urgent.
func (q *queue) putBack(t *ticket) {
	q.add(t)
	if p := t.turn; slices.Contains(t.places, p) {
		p.level.tenants.order.MoveToFront(p.tenantAt)
		memberOf[*tenantLine](p.tenantAt).invocations.order.MoveToFront(p.lineAt)
	}
}

// first is the place whose turn it is; there must be one.
func (q *queue) first() *place {
	invocations := &memberOf[*tenantLine](q.levels[0].tenants.order.Front()).invocations
	return memberOf[*line](invocations.order.Front()).places.Front().Value.(*place)
}

// all goes through the waiting tickets in the order in which they would be taken
// if nothing changed, each by the place that it would be taken by.
func (q *queue) all() iter.Seq[*place] {
	return func(yield func(*place) bool) {
		seen := map[*ticket]bool{} // of those that have several places
		for _, l := range q.levels {
			for p := range l.all(seen) {
				if !yield(p) {
					return
				}
			}
		}
	}
}

func (l *level) all(seen map[*ticket]bool) iter.Seq[*place] {
	return func(yield func(*place) bool) {
		var turns []*turns
		for e := l.tenants.order.Front(); e != nil; e = e.Next() {
			turns = append(turns, memberOf[*tenantLine](e).turns())
		}
		for len(turns) > 0 {
			now := turns[0]
			turns = turns[1:]
			p := now.next(seen)
			if p == nil {
				continue
			}
			turns = append(turns, now)
			if !yield(p) {
				return
			}
		}
	}
}

// turns is a walk through one tenant's lines.
type turns struct {
	lines []*list.Element // the next place of each line, in the order of their turns
}

func (t *tenantLine) turns() *turns {
	w := &turns{lines: make([]*list.Element, 0, t.invocations.len())}
	for e := t.invocations.order.Front(); e != nil; e = e.Next() {
		w.lines = append(w.lines, memberOf[*line](e).places.Front())
	}
	return w
}

// next is the place whose turn is next, or nil.
func (w *turns) next(seen map[*ticket]bool) *place {
	for len(w.lines) > 0 {
		e := w.lines[0]
		w.lines = w.lines[1:]
		for e != nil && seen[e.Value.(*place).ticket] {
			e = e.Next()
		}
		if e == nil {
			continue
		}
		p := e.Value.(*place)
		if len(p.ticket.places) > 1 {
			seen[p.ticket] = true
		}
		if after := e.Next(); after != nil {
			w.lines = append(w.lines, after)
		}
		return p
	}
	return nil
}
