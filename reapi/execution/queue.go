package execution

import "container/heap"

// queue orders waiting tickets: lower priority numbers first, first come first
// served among equals. It is a pure data structure; its owner locks.
type queue struct {
	tickets []*ticket
	arrived uint64
}

// ticket is one run's place in the queue.
type ticket struct {
	priority int32
	arrival  uint64
	index    int // in queue.tickets; -1 when it is not waiting
	// admitted is closed when the run may start.
	admitted chan struct{}
}

func (q *queue) add(t *ticket) {
	q.arrived++
	t.arrival = q.arrived
	heap.Push((*ticketHeap)(q), t)
}

// next takes the ticket out whose turn it is; there must be one.
func (q *queue) next() *ticket { return heap.Pop((*ticketHeap)(q)).(*ticket) }

func (q *queue) remove(t *ticket) { heap.Remove((*ticketHeap)(q), t.index) }

// raise gives a waiting ticket a more urgent priority.
func (q *queue) raise(t *ticket, priority int32) {
	if priority >= t.priority {
		return
	}
	t.priority = priority
	if t.index >= 0 {
		heap.Fix((*ticketHeap)(q), t.index)
	}
}

func (q *queue) len() int { return len(q.tickets) }

// ticketHeap is queue as container/heap wants it.
type ticketHeap queue

func (h *ticketHeap) Len() int { return len(h.tickets) }

func (h *ticketHeap) Less(i, j int) bool {
	a, b := h.tickets[i], h.tickets[j]
	if a.priority != b.priority {
		return a.priority < b.priority
	}
	return a.arrival < b.arrival
}

func (h *ticketHeap) Swap(i, j int) {
	h.tickets[i], h.tickets[j] = h.tickets[j], h.tickets[i]
	h.tickets[i].index, h.tickets[j].index = i, j
}

func (h *ticketHeap) Push(x any) {
	t := x.(*ticket)
	t.index = len(h.tickets)
	h.tickets = append(h.tickets, t)
}

func (h *ticketHeap) Pop() any {
	last := len(h.tickets) - 1
	t := h.tickets[last]
	h.tickets[last] = nil
	h.tickets = h.tickets[:last]
	t.index = -1
	return t
}
