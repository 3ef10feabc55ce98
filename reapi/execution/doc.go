// Package execution is what it means to run an action: from a request to an
// outcome that any number of clients can watch.
//
// It owns the Scheduler (which requests share a run), the Slots (which run starts
// when, and why the others wait), the Operation (a client's handle on a run), and
// the Executor with its decorators (match, admit, load, stage, run, capture, cache,
// time, trace). It is the one place where digests (cas) and processes (runners)
// meet. It never knows gRPC services or status codes: package reapi turns its
// errors into those.
//
// Invariants:
//   - A run whose turn it is waits for none but those that ran already and those
//     that are more urgent; invocations of one priority take turns.
//   - An operation ends exactly once, with an Outcome, whatever happens.
//   - A runner is released only when nothing of the action is left in it, and
//     discarded when that is not certain.
//   - Every blob that a result names was in the store before the run ended.
//   - A result is cached only if the command exited with 0, everything was
//     stored, and the action allows it.
package execution
