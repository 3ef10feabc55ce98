// Package buildbarn lets this machine work in a Buildbarn cluster, in two ways: as a
// worker, which asks bb_scheduler for actions over its RemoteWorker protocol, and as
// a runner, to which a bb_worker beside it gives commands over its Runner protocol.
//
// It owns the worker's side of RemoteWorker: one Synchronize loop for each slot
// (Worker), what an assignment becomes for the execution.Scheduler that `hearth
// serve` has, too (Actions), and the response that bb-browser finds. And it owns the
// Runner service: paths in the build directory, and the command in a container of a
// runners.Pool. It never runs an action itself, keeps a queue, or knows an engine.
//
// Invariants:
//   - A slot has one call in flight and one action at most; the next begins when
//     nothing of the one before is going on any more.
//   - A result is reported until the scheduler has answered, and not before all that
//     it names is in the cluster's storage.
//   - A worker that is not ready, or is being drained, takes no action. What it has
//     then ends as usual, or with an error after which clients try again.
//   - No path in a Run request leads out of the build directory.
package buildbarn
