// Package runnertest has what tests of runners need: Fake, a Backend in memory
// whose commands are Go functions and which fails and hangs on demand;
// HostProcess, a Backend whose runners are real exec servers in PID namespaces
// of their own on this host, without a container around them; and TestBackend,
// the suite that every Backend passes.
//
// It owns what the contract of Backend means in practice. It is for tests only:
// no program links it, and it never knows podman.
//
// Invariants:
//   - Fake reports every use of a runner that the contract of Backend forbids.
//   - HostProcess signals only processes of the namespaces that it made.
package runnertest
