package execserver

import (
	"context"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/hearth-build/hearth/execserver/execpb"
)

// lending is a call of Work, as those of Tell see it.
type lending struct {
	told chan *telling // what to do next; the call takes one at a time
	over chan struct{} // closed when the call has ended
	wake func()

	// Of the goroutine of Work.
	now  *telling
	keep bool
}

// telling is one Tell.
type telling struct {
	*execpb.TellRequest
	done chan struct{} // closed when it is
}

func newLending(wake func()) *lending {
	return &lending{told: make(chan *telling, 1), over: make(chan struct{}), wake: wake}
}

// Tell implements execpb.ExecServerServer.
func (s *server) Tell(ctx context.Context, req *execpb.TellRequest) (*execpb.TellResponse, error) {
	l := s.lent.Load()
	if l == nil {
		return nil, status.Error(codes.FailedPrecondition, "no worker is lent")
	}
	t := &telling{TellRequest: req, done: make(chan struct{})}
	select {
	case l.told <- t:
		l.wake()
	case <-l.over:
		return nil, status.Error(codes.FailedPrecondition, "the worker has ended")
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	}
	select {
	case <-t.done:
		return &execpb.TellResponse{}, nil
	case <-l.over:
		return nil, status.Error(codes.FailedPrecondition, "the worker has ended")
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	}
}

// turn does what it is told, between two polls, and says whether the worker is to
// be kept now. A command is not lent and never kept.
func (l *lending) turn(stdin *feed) (keep bool) {
	if l == nil {
		return false
	}
	if l.now != nil && stdin.wants() {
		return false // it is still being written
	}
	for {
		if l.now != nil {
			close(l.now.done)
			l.now = nil
		}
		select {
		case l.now = <-l.told:
		default:
			return l.keep
		}
		l.keep = l.keep || l.now.Keep
		if stdin.data = l.now.Stdin; stdin.wants() {
			return false
		}
	}
}
