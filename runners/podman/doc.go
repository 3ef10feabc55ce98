// Package podman is the runners.Backend that makes each runner a podman
// container, and the only importer of podman's bindings.
//
// It owns: which podman service is used, or started and watched over; what a
// runner's container looks like, from an image or from the host's own root file
// system; how it is frozen, measured and removed; and the removal of what a
// crashed hearth left. It never decides when a runner is started, paused or
// removed (that is runners.Pool), and never knows digests, actions or the
// Remote Execution API.
//
// One Start, by number:
//
//  1. The service is connected to; if it has died it is started again first.
//  2. The runner's directory gets "ctl", where the exec server's socket will be,
//     and "work", which the container sees as runners.ContainerWorkDir.
//  3. A container is created (spec.go): its PID 1 is the exec server whatever
//     the image declares, without capabilities that it can do without. For the
//     image "host" everything private of the host is covered (hostimage.go).
//  4. It is started, beside it a conmon that will start nothing when it ends
//     (quietconmon.go), and its cgroup found, whose files are kept open (cgroup.go).
//  5. The exec server answers, or the container's end and last words are told.
//
// Invariants:
//   - Every container carries the labels by which Sweep finds it: only those
//     with this data directory are ever touched.
//   - A process is signalled only through a pidfd, or by its process group
//     before it was waited for: never a process that merely got the same id.
//   - One Backend at a time uses a data directory.
//   - Pulls end with Close or their own timeout, and with nothing else.
//   - An image that credentials brought is used only after its registry has agreed
//     to those of the request, also after a restart (imagerecord.go).
//   - Only images that hearth pulled are removed.
//   - Credentials go to the service through its API, and are never in a log,
//     an error or the arguments of a process.
package podman
