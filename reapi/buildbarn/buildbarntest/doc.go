// Package buildbarntest is the scheduler's half of Buildbarn's RemoteWorker protocol,
// for tests of workers: it hands out actions and is strict about what it is told.
//
// It owns the queue, who has which action, and the list of what a worker did that the
// protocol does not allow. It never runs anything, and keeps no timeouts: a worker is
// gone when the test says so. The real scheduler is in the tests of package e2e.
//
// Invariants:
//   - An action is given to one worker at a time, and to the same again until it is
//     completed or cancelled.
//   - Each breach of the protocol is remembered, and answered with an error.
package buildbarntest
