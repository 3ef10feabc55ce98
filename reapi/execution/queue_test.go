package execution

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// named returns a ticket with a place for each "priority/tenant/invocation".
func named(q *queue, places ...string) *ticket {
	t := newTicket(nil, nil)
	for _, p := range places {
		q.join(t, placeOf(p))
	}
	return t
}

func placeOf(text string) *place {
	p := &place{}
	if _, err := fmt.Sscanf(strings.ReplaceAll(text, "/", " "), "%d %s %s", &p.priority, &p.tenant, &p.invocation); err != nil {
		panic(err)
	}
	return p
}

// order empties the queue and returns where each ticket came from.
func order(q *queue) string {
	var from []string
	for q.len() > 0 {
		p := q.first()
		q.take(p)
		from = append(from, p.invocation)
	}
	return strings.Join(from, " ")
}

// REAPI F35, I2: the most urgent first; among equals, tenants take turns, and so
// do a tenant's invocations; within one, first come first served.
func TestQueueOrder(t *testing.T) {
	for _, tc := range []struct {
		name   string
		places []string // of one ticket each
		want   string
	}{
		{"first come", []string{"0/t/a", "0/t/a", "0/t/a"}, "a a a"},
		{"turns", []string{"0/t/a", "0/t/a", "0/t/a", "0/t/b", "0/t/b", "0/t/c"}, "a b c a b a"},
		{"urgent", []string{"0/t/a", "5/t/b", "-5/t/c", "0/t/d"}, "c a d b"},
		{"tenants", []string{"0/t/a", "0/t/b", "0/t/c", "0/u/d", "0/u/d", "0/u/d"}, "a d b d c d"},
		{"one invocation of two tenants", []string{"0/t/a", "0/t/a", "0/u/a", "0/t/b"}, "a a b a"},
		{"one invocation of two priorities", []string{"1/t/a", "0/t/a", "1/t/b", "0/t/b"}, "a b a b"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			q := &queue{}
			for _, p := range tc.places {
				q.add(named(q, p))
			}
			if got := order(q); got != tc.want {
				t.Errorf("order %s, want %s", got, tc.want)
			}
			if len(q.levels) > 0 {
				t.Errorf("an empty queue has %d levels", len(q.levels))
			}
		})
	}
}

// REAPI F26: a shared run is as urgent as the most urgent of its requests, has
// its turn when any of them has, and only once.
func TestQueueOfSharedRuns(t *testing.T) {
	q := &queue{}
	for range 3 {
		q.add(named(q, "0/t/flood"))
	}
	shared := named(q, "0/t/flood")
	q.add(shared)
	mine := placeOf("0/t/mine")
	q.join(shared, mine)
	urgent := placeOf("-1/t/urgent")
	q.join(shared, urgent)
	if p := q.first(); p != urgent || shared.urgency() != -1 {
		t.Errorf("the first is %+v", p)
	}
	q.leave(shared, urgent)
	if shared.urgency() != 0 {
		t.Errorf("urgency %d after the urgent request left", shared.urgency())
	}
	if got := order(q); got != "flood mine flood flood" {
		t.Errorf("order %s", got)
	}
}

// A request that left does not cost the others of its invocation their turn.
func TestQueueForgetsWhoLeft(t *testing.T) {
	q := &queue{}
	var flood []*ticket
	for range 1000 {
		flood = append(flood, named(q, "0/t/flood"))
		q.add(flood[len(flood)-1])
	}
	for _, f := range flood[:999] {
		q.remove(f)
	}
	q.add(named(q, "0/t/b"))
	q.add(named(q, "0/t/b"))
	if got := order(q); got != "flood b b" {
		t.Errorf("order %s", got)
	}
}

// A ticket that is put back is the next of its priority, whatever came meanwhile.
func TestQueuePutBack(t *testing.T) {
	q := &queue{}
	for _, p := range []string{"0/t/a", "0/t/a", "0/t/b", "0/u/c"} {
		q.add(named(q, p))
	}
	for range 4 {
		first := q.first()
		taken := q.take(first)
		q.putBack(taken)
		if q.first() != first {
			t.Fatalf("%+v came before what was put back", q.first())
		}
		q.take(q.first())
	}
}

// naivePlace is a place in the naive twin of a queue, which searches lists.
type naivePlace struct {
	*place
	id int // of the ticket
}

// naiveOrder takes everything out of the places, by turns, and returns the
// tickets' numbers. The rings are lists of names in the order of their turns.
func naiveOrder(places []*naivePlace, rings map[string][]string) []int {
	places = slices.Clone(places)
	clone := map[string][]string{}
	for k, v := range rings {
		clone[k] = slices.Clone(v)
	}
	var ids []int
	for len(places) > 0 {
		p := naiveFirst(places, clone)
		ids = append(ids, p.id)
		naiveTurn(clone, p)
		places = slices.DeleteFunc(places, func(o *naivePlace) bool { return o.id == p.id })
		naivePrune(places, clone)
	}
	return ids
}

func levelRing(p *place) string  { return fmt.Sprintf("%d", p.priority) }
func tenantRing(p *place) string { return fmt.Sprintf("%d/%s", p.priority, p.tenant) }

// naiveFirst searches for the place whose turn it is.
func naiveFirst(places []*naivePlace, rings map[string][]string) *naivePlace {
	return slices.MinFunc(places, func(a, b *naivePlace) int {
		if a.priority != b.priority {
			return int(a.priority) - int(b.priority)
		}
		if a.tenant != b.tenant {
			ring := rings[levelRing(a.place)]
			return slices.Index(ring, a.tenant) - slices.Index(ring, b.tenant)
		}
		if a.invocation != b.invocation {
			ring := rings[tenantRing(a.place)]
			return slices.Index(ring, a.invocation) - slices.Index(ring, b.invocation)
		}
		return int(a.arrival) - int(b.arrival)
	})
}

// naiveTurn puts the names of a place at the end of their rings.
func naiveTurn(rings map[string][]string, p *naivePlace) {
	last := func(ring, name string) {
		rings[ring] = append(slices.DeleteFunc(rings[ring], func(n string) bool { return n == name }), name)
	}
	last(levelRing(p.place), p.tenant)
	last(tenantRing(p.place), p.invocation)
}

// naiveEnter adds names that the rings lack, in the order of places.
func naiveEnter(rings map[string][]string, places ...*naivePlace) {
	for _, p := range places {
		for ring, name := range map[string]string{levelRing(p.place): p.tenant, tenantRing(p.place): p.invocation} {
			if !slices.Contains(rings[ring], name) {
				rings[ring] = append(rings[ring], name)
			}
		}
	}
}

// naivePrune drops names of which no place is left.
func naivePrune(places []*naivePlace, rings map[string][]string) {
	for ring, names := range rings {
		rings[ring] = slices.DeleteFunc(names, func(name string) bool {
			return !slices.ContainsFunc(places, func(p *naivePlace) bool {
				return levelRing(p.place) == ring && p.tenant == name || tenantRing(p.place) == ring && p.invocation == name
			})
		})
	}
}

// pair is a queue and its naive twin.
type pair struct {
	*queue
	r       *rand.Rand
	tickets map[*ticket]int // that wait
	places  []*naivePlace
	rings   map[string][]string
	made    int
}

func (p *pair) some(of int, letter rune) string { return string(letter + rune(p.r.IntN(of))) }

func (p *pair) randomPlace() *place {
	return &place{priority: int32(p.r.IntN(3)), tenant: p.some(3, 't'), invocation: p.some(4, 'a')}
}

func (p *pair) randomTicket() *ticket {
	if len(p.tickets) == 0 {
		return nil
	}
	var all []*ticket
	for t := range p.queue.all() {
		all = append(all, t.ticket)
	}
	return all[p.r.IntN(len(all))]
}

func (p *pair) note(t *ticket, pl *place) {
	n := &naivePlace{pl, p.tickets[t]}
	p.places = append(p.places, n)
	naiveEnter(p.rings, n)
}

func (p *pair) forget(gone func(*naivePlace) bool) {
	p.places = slices.DeleteFunc(p.places, gone)
	naivePrune(p.places, p.rings)
}

func (p *pair) step() {
	switch t := p.randomTicket(); p.r.IntN(6) {
	case 0, 1:
		t = newTicket(nil, nil)
		p.made++
		p.tickets[t] = p.made
		for range 1 + p.r.IntN(2) {
			p.queue.join(t, p.randomPlace())
		}
		p.queue.add(t)
		for _, pl := range t.places {
			p.note(t, pl)
		}
	case 2:
		if t != nil {
			pl := p.randomPlace()
			p.queue.join(t, pl)
			p.note(t, pl)
		}
	case 3:
		if t != nil && len(t.places) > 1 {
			pl := t.places[p.r.IntN(len(t.places))]
			p.queue.leave(t, pl)
			p.forget(func(n *naivePlace) bool { return n.place == pl })
		}
	case 4:
		if t != nil {
			p.queue.remove(t)
			p.drop(t)
		}
	case 5:
		if t != nil {
			p.take()
		}
	}
}

// take takes a place that may not be the first, as a backfill does.
func (p *pair) take() {
	skip := p.r.IntN(3)
	var pl *place
	for pl = range p.queue.all() {
		if skip--; skip < 0 {
			break
		}
	}
	t := p.queue.take(pl)
	naiveTurn(p.rings, &naivePlace{place: pl})
	p.drop(t)
}

func (p *pair) drop(t *ticket) {
	id := p.tickets[t]
	delete(p.tickets, t)
	p.forget(func(n *naivePlace) bool { return n.id == id })
}

// The queue against its naive twin, in random steps.
func TestQueueModel(t *testing.T) {
	for seed := range uint64(30) {
		p := &pair{queue: &queue{}, r: rand.New(rand.NewPCG(seed, 1)), tickets: map[*ticket]int{}, rings: map[string][]string{}}
		for n := range 80 {
			p.step()
			var got []int
			for pl := range p.queue.all() {
				got = append(got, p.tickets[pl.ticket])
			}
			if want := naiveOrder(p.places, p.rings); !slices.Equal(got, want) || p.queue.len() != len(p.tickets) {
				t.Fatalf("seed %d, step %d: order %v (%d tickets), want %v (%d)", seed, n, got, p.queue.len(), want, len(p.tickets))
			}
			if len(got) > 0 && p.tickets[p.queue.first().ticket] != got[0] {
				t.Fatalf("seed %d, step %d: the first is not the first of all", seed, n)
			}
		}
	}
}
