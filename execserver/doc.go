// Package execserver is both ends of the protocol by which hearth runs commands
// in a container: the server, PID 1 of every runner, and the client.
//
// It owns how a process is started, watched, killed and reaped, and that
// nothing of a command stays in the container's scratch directories. It knows
// nothing of containers, digests, workspaces or the Remote Execution API, and
// it never links podman, an SDK or telemetry: its binary is mounted into every
// runner.
//
// One run, by number. It has a connection of its own, with a protocol that is one
// system call for each message (frame.go, door.go); all else is gRPC. Everything up to
// 6 happens on the goroutine of the connection:
//
//  1. The run waits until the command before is over and its scratch is gone.
//  2. argv[0] is looked up and the command forked, with pipes as stdout and
//     stderr, in a session of its own, as its user (start.go).
//  3. One poll waits for output, the end of the main process, the next step of
//     the timeout, and the end of the connection (run.go). Output that is older than
//     some milliseconds goes to a sender (output.go), so that a slow client
//     stops the command, but never the clock.
//  4. The main process has ended: all others are killed and reaped (reap.go).
//  5. What is left in the pipes is sent. No writer is left: nothing blocks.
//  6. The exited event is sent.
//  7. The scratch directories are emptied (scratch.go), and System V objects are
//     removed (sysvipc.go), which frees the slot.
//
// A worker (worker.go) is a command that is not ended at 4: when its client says
// keep, all processes are stopped instead, and 5 to 7 wait for its end. The next
// call of Work continues it; a Run, or a worker of another kind, ends it first. What
// it says is nothing to the server.
//
// A client that breaks a run or a call off asks when it is settled, that is when 7 is over.
//
// Invariants:
//   - The server runs only as PID 1 of a PID namespace; that makes it the
//     parent of every orphan, and kill(-1) reach everything but itself.
//   - While no call is under way, no process but the server runs: there is none, or
//     all are a worker's, and stopped.
//   - A result is sent only when no process but the server is left: kill(-1)
//     reaches every process of the namespace and of those below it, whatever its
//     session, user, parent or tracer, at once, so that no fork slips through;
//     and when wait finds no child, there is none, since every orphan becomes one.
//   - A command gets the environment, arguments and directory of its request
//     and nothing of the server's: no descriptor, signal mask or ignored signal.
//   - Only peers outside of the PID namespace are served.
//   - When a process cannot be killed in time or a scratch directory not be
//     emptied, every later run is refused as a FAULT: the container must be removed.
//   - When memory runs out, the kernel ends commands before the server (oomscore.go).
//
// It needs Linux 5.4 or later, for pidfds.
package execserver
