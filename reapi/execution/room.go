package execution

import (
	"context"
	"sync"

	"github.com/hearth-build/hearth/runners"
)

// RoomRequest is for whom there should be room, and how much.
type RoomRequest struct {
	// Tenant and Priority say whose turn it is, as with a Request.
	Tenant   string
	Priority int32
	// Estimates are what the action needs; what they do not say is as with actions
	// that do not say.
	Estimates runners.Estimates
	// Name is for those who look at what waits.
	Name string
}

// Room is what an action needs of this machine, kept for one that is not here yet:
// whoever takes actions from elsewhere should take those that can begin. Release it
// when the action has ended, or does not come.
type Room struct {
	slots   *Slots
	ticket  *ticket
	release sync.Once
}

// Release gives the room to others.
func (r *Room) Release() { r.release.Do(func() { r.slots.leave(r.ticket) }) }

// Reserve returns when there is room, after those whose turn is before. An Assignment
// with it is admitted at once. It fails with ErrPlatform if there will never be so much.
func (s *Scheduler) Reserve(ctx context.Context, req RoomRequest) (*Room, error) {
	needs, err := s.slots.needs(req.Estimates)
	if err != nil {
		return nil, err
	}
	t := newTicket(&Task{Tenant: req.Tenant, Operation: req.Name}, func(Wait) {})
	t.needs = needs
	s.slots.join(t, &place{priority: req.Priority, tenant: req.Tenant})
	atOnce, err := s.slots.enter(t)
	if err == nil && !atOnce {
		err = s.slots.wait(ctx, t)
	}
	if err != nil {
		return nil, err
	}
	return &Room{slots: s.slots, ticket: t}, nil
}
