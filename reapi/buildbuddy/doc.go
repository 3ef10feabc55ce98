// Package buildbuddy lets this machine work for a BuildBuddy app, as one of its
// executors.
//
// It owns the executor's side of the app's protocol: the registration, on which tasks
// are offered (session.go); the lease of a task, which is renewed in time and given
// back (lease.go); the publication of what becomes of it (publisher.go); and whose
// name each call is made in (credentials.go). An offered task waits in the queue of
// the execution.Scheduler that `hearth serve` has, too, and is leased when there is
// room for it. It never runs an action itself, keeps a queue, or knows an engine.
//
// Invariants:
//   - A task is leased only when it can begin, and at most once at a time.
//   - Nothing of a task goes on when its lease is over by this machine's clock.
//   - A task is finalized only after the app has acknowledged its outcome, and all
//     that the outcome names is in the storage. Else it is given back, with a reason.
//   - Calls that are about a task are made in the name of its owner, all others with
//     the API key. Neither is ever logged.
package buildbuddy
