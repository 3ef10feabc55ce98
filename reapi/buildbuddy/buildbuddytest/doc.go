// Package buildbuddytest is a BuildBuddy app's half of the executor protocol, for tests
// of executors: it offers tasks, leases them, and is strict about what it is told.
//
// It owns the tasks, which executors were offered which, who has the lease of each, and
// the list of what executors did that the protocol does not allow. It never runs
// anything, keeps nothing on a disk, and is no BuildBuddy: what it takes for the
// protocol is what was read of the published definitions and of their documentation.
//
// Invariants:
//   - A task has one lease at a time. One that is not renewed in time, or whose stream
//     broke and was not taken up again, is over, and others are offered the task.
//   - Calls about a task are answered only if they come in its owner's name, all others
//     only with the API key.
//   - Each breach of the protocol is remembered, and answered with an error.
package buildbuddytest
