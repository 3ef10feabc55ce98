// Package cluster is what workers of a scheduler elsewhere have in common, whatever
// its protocol is: the way of an action from an assignment to its outcome, and the
// wait after failures.
//
// It owns how an assignment becomes a request to the execution.Scheduler that `hearth
// serve` has, too (Actions), how its run is followed (Watch), and what of its outcome
// is this machine's fault and not the action's (Translated, HandsBack). It never
// speaks to a scheduler elsewhere, runs an action itself, or knows an engine.
//
// Invariants:
//   - Watch returns when nothing of the action goes on any more, also when its
//     context ends.
//   - What is amiss with this machine alone is told as something for which clients, or
//     schedulers, try again.
package cluster
