package execution

import (
	"container/list"
	"math"
	"time"
)

// ticket is one run's right to be admitted, once.
type ticket struct {
	task  *Task
	needs Resources
	// places are those of the requests that share the run: it is admitted when
	// it is the turn of any. So it is as urgent as the most urgent one.
	places []*place
	// inLine: it is in the queue. turn is the place by which it left.
	inLine bool
	turn   *place

	since time.Time // when it began to wait
	late  bool      // it was told that it waits for long
	// waits is called from time to time when it waits for long.
	waits func(Wait)

	// admitted is closed when the run may start, or never will, which err says.
	admitted chan struct{}
	err      error
	settled  bool // admitted is closed
	// beside is the turn in which this one was admitted beside another; else 0.
	beside uint64
}

// place is a ticket's place in the line of one request.
type place struct {
	priority           int32
	tenant, invocation string
	arrival            uint64

	// Where it is while its ticket is in line.
	ticket           *ticket
	level            *level
	tenantAt, lineAt *list.Element // seats of a *tenantLine and a *line
	at               *list.Element
}

// newTicket returns a ticket without a place.
func newTicket(task *Task, waits func(Wait)) *ticket {
	return &ticket{task: task, waits: waits, admitted: make(chan struct{})}
}

// urgency is the most urgent priority among the ticket's places.
func (t *ticket) urgency() int32 {
	most := int32(math.MaxInt32)
	for _, p := range t.places {
		most = min(most, p.priority)
	}
	return most
}
