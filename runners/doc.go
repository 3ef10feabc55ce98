// Package runners keeps containers warm between actions. A runner is one
// container with one directory on the host (its workspace) and, inside, an exec
// server; the Pool hands runners out under leases and takes them back.
//
// It owns: which platform properties mean what (Platform), when two actions may
// share a runner (Key), the states of a runner (starting, busy, idle, paused,
// removed), when an idle one is paused or evicted, and the seams to a container
// engine (Backend, Instance). It knows directories and processes, and neither
// digests nor the Remote Execution API; it never talks to podman itself.
//
// Invariants:
//   - A runner is leased to at most one action at a time.
//   - Two actions share a runner only if their Keys are equal.
//   - A runner about which there is any doubt is removed, never handed out.
//   - Every runner that was started is removed by the Pool that started it, or
//     by the sweep of the next one.
package runners
