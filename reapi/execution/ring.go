package execution

import "container/list"

// ring is a group of members that take turns, by name.
type ring[M any] struct {
	order  list.List // of *seat[M]; the member whose turn is next is in front
	byName map[string]*list.Element
}

// seat is a member's place in a ring.
type seat[M any] struct {
	name   string
	member M
}

// seat returns the seat of that name, a new one at the back if there is none,
// whose member make makes.
func (r *ring[M]) seat(name string, make func() M) *list.Element {
	if e := r.byName[name]; e != nil {
		return e
	}
	if r.byName == nil {
		r.byName = map[string]*list.Element{}
	}
	e := r.order.PushBack(&seat[M]{name, make()})
	r.byName[name] = e
	return e
}

func (r *ring[M]) remove(e *list.Element) {
	delete(r.byName, r.order.Remove(e).(*seat[M]).name)
}

func (r *ring[M]) len() int { return r.order.Len() }

// memberOf is the member in a seat.
func memberOf[M any](e *list.Element) M { return e.Value.(*seat[M]).member }
