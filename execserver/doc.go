// Package execserver is both ends of the protocol by which hearth runs commands
// in a container: the server, PID 1 of every runner, and the client.
//
// It owns how a process is started, watched, killed and reaped. It knows
// nothing of containers, digests, workspaces or the Remote Execution API, and
// it never links podman, an SDK or telemetry: its binary is copied into every
// runner.
//
// Invariants:
//   - The server runs only as PID 1 of a PID namespace; that makes it the
//     parent of every orphan, and kill(-1) reach everything but itself.
//   - A result is sent only when no process but the server is left.
//   - A command gets the environment, arguments and directory of its request
//     and nothing of the server's.
package execserver
