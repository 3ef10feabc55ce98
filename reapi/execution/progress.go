package execution

import (
	"fmt"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/hearth-build/hearth/reapi/execution/actionpb"
)

// Metadata is what is known of a run that has not ended: the times that it has
// reached, and what it is doing. The worker is left out, since clients take that
// for a promise that all times are set (REAPI H1).
func (s State) Metadata() (*repb.ExecutedActionMetadata, error) {
	progress, err := anypb.New(s.progress())
	if err != nil {
		return nil, fmt.Errorf("encode the action's progress: %w", err)
	}
	md := &repb.ExecutedActionMetadata{AuxiliaryMetadata: []*anypb.Any{progress}}
	s.Timeline.stamp(md, false)
	return md, nil
}

func (s State) progress() *actionpb.ActionProgress {
	p := &actionpb.ActionProgress{
		Phase:                s.Step,
		PhaseStartUnixMillis: s.Timeline.steady(s.Since).UnixMilli(),
		AcceptedUnixMillis:   s.Timeline.Queued.UnixMilli(),
		Reason:               s.Reason,
	}
	if s.Wait == nil {
		return p
	}
	p.Reason = s.Wait.String()
	p.Queue = &actionpb.QueuePlace{
		Position:          int64(s.Wait.Position),
		InvocationsBefore: int64(s.Wait.Invocations),
	}
	if short := s.Wait.Shortage; short != (Shortage{}) {
		p.Queue.Shortage = &actionpb.Shortage{Resource: short.Resource, Asked: short.Asked, Free: short.Free}
	}
	return p
}
