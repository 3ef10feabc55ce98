package buildbuddytest

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/hearth-build/hearth/reapi/buildbuddy/buildbuddypb"
)

// executor is one that is registered.
type executor struct {
	node    *buildbuddypb.ExecutionNode
	out     chan *buildbuddypb.RegisterAndStreamWorkResponse
	offers  map[string]bool // of the tasks that it was offered and has not leased
	unheard map[string]int  // how often it has not said yet that it heard of a task
	leaving bool
}

// maxOutbox is more than any test has executors told at a time.
const maxOutbox = 1000

// RegisterAndStreamWork implements buildbuddypb.SchedulerServer.
func (a *App) RegisterAndStreamWork(stream buildbuddypb.Scheduler_RegisterAndStreamWorkServer) error {
	a.mu.Lock()
	err := a.ownLocked(stream.Context())
	if err == nil {
		err = a.faultLocked(CallRegister, "")
	}
	a.mu.Unlock()
	if err != nil {
		return err
	}
	broken := a.breaking()
	e := &executor{out: make(chan *buildbuddypb.RegisterAndStreamWorkResponse, maxOutbox), offers: map[string]bool{}, unheard: map[string]int{}}
	messages, ended := receive(stream.Context(), stream.Recv)
	defer a.unregister(e)
	for {
		select {
		case <-broken:
			return errBroken()
		case err := <-ended:
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return err
		case message := <-e.out:
			if err := stream.Send(message); err != nil {
				return err
			}
		case message := <-messages:
			if err := a.heed(e, message); err != nil {
				return err
			}
		}
	}
}

func (a *App) unregister(e *executor) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.executors = slices.DeleteFunc(a.executors, func(o *executor) bool { return o == e })
}

// heed does what an executor's message asks for.
func (a *App) heed(e *executor, message *buildbuddypb.RegisterAndStreamWorkRequest) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	register, heard := message.GetRegisterExecutorRequest(), message.GetEnqueueTaskReservationResponse()
	leave, ask := message.GetShuttingDownRequest(), message.GetAskForMoreWorkRequest()
	fields := 0
	for _, set := range []bool{register != nil, heard != nil, leave != nil, ask != nil} {
		if set {
			fields++
		}
	}
	switch {
	case fields != 1:
		return a.violateLocked("a message with %d fields: %v", fields, message)
	case e.leaving:
		return a.violateLocked("an executor that leaves said: %v", message)
	case register != nil:
		return a.registerLocked(e, register.GetNode())
	case e.node == nil:
		return a.violateLocked("the first message on a stream is not a registration: %v", message)
	case heard != nil:
		return a.heardLocked(e, heard.GetTaskId())
	case leave != nil:
		return a.leaveLocked(e, leave.GetTaskId())
	default:
		return a.moreLocked(e)
	}
}

func (a *App) registerLocked(e *executor, node *buildbuddypb.ExecutionNode) error {
	if node.GetHost() == "" || node.GetPort() == 0 || node.GetExecutorId() == "" || node.GetExecutorHostId() == "" ||
		node.GetOsFamily() != "linux" || node.GetArch() == "" || node.GetAssignableMemoryBytes() <= 0 || node.GetAssignableMilliCpu() <= 0 {
		return a.violateLocked("a registration lacks something: %v", node)
	}
	if e.node != nil && e.node.GetExecutorId() != node.GetExecutorId() {
		return a.violateLocked("executor %s became %s", e.node.GetExecutorId(), node.GetExecutorId())
	}
	first := e.node == nil
	e.node = node
	if !first {
		return nil
	}
	a.executors = append(a.executors, e)
	if a.Ask {
		return nil
	}
	return a.offerAllLocked(e)
}

// offerAllLocked offers all that nobody has.
func (a *App) offerAllLocked(e *executor) error {
	for _, t := range a.submitted {
		if t.gone || t.claim != nil {
			continue
		}
		if err := e.offerLocked(t); err != nil {
			return err
		}
	}
	return nil
}

func (e *executor) offerLocked(t *Task) error {
	if e.offers[t.id] || e.leaving {
		return nil
	}
	message, err := t.offer()
	if err != nil {
		return err
	}
	e.offers[t.id] = true
	e.unheard[t.id]++
	t.offered[e.node.GetExecutorId()] = e.node.GetExecutorHostId()
	return e.tell(message)
}

func (e *executor) withdrawLocked(t *Task) error {
	if !e.offers[t.id] || !e.node.GetSupportsProactiveCancellation() {
		return nil
	}
	delete(e.offers, t.id)
	return e.tell(&buildbuddypb.RegisterAndStreamWorkResponse{CancelTaskReservationRequest: &buildbuddypb.CancelTaskReservationRequest{TaskId: t.id}})
}

func (e *executor) tell(message *buildbuddypb.RegisterAndStreamWorkResponse) error {
	select {
	case e.out <- message:
		return nil
	default:
		return fmt.Errorf("executor %s was told %d things and has not heard any", e.node.GetExecutorId(), maxOutbox)
	}
}

func (a *App) heardLocked(e *executor, id string) error {
	t := a.tasks[id]
	if t == nil {
		return a.violateLocked("executor %s heard of a task that there never was: %s", e.node.GetExecutorId(), id)
	}
	if e.unheard[id] == 0 {
		return a.violateLocked("executor %s heard more often of task %s than it was offered", e.node.GetExecutorId(), id)
	}
	e.unheard[id]--
	t.offers++
	return nil
}

func (a *App) leaveLocked(e *executor, ids []string) error {
	e.leaving = true
	for _, id := range ids {
		if !e.offers[id] && a.tasks[id].has(e.node.GetExecutorId()) {
			return a.violateLocked("executor %s leaves, and says that it only was offered task %s, which it has", e.node.GetExecutorId(), id)
		}
	}
	for _, id := range ids {
		if t, err := a.findLocked(id); err == nil && t.claim == nil {
			if err := a.offerLocked(t, e.node.GetExecutorId()); err != nil {
				return err
			}
		}
	}
	return nil
}

// moreLocked offers what the executor was not offered yet, and says when to ask again.
func (a *App) moreLocked(e *executor) error {
	if err := a.offerAllLocked(e); err != nil {
		return err
	}
	delay, err := proto.Marshal(durationpb.New(time.Second))
	if err != nil {
		return err
	}
	return e.tell(&buildbuddypb.RegisterAndStreamWorkResponse{AskForMoreWorkResponse: &buildbuddypb.AskForMoreWorkResponse{Delay: delay}})
}
