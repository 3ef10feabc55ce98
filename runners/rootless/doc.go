// Package rootless makes a program of an ordinary user's root of a user namespace, with
// the user IDs that /etc/subuid gives to that user, as rootless podman is.
//
// All that hearth does as root it can do there in the same way: give files to the user
// of an action, mount what users may mount, start containers. So no other package has a
// second way of doing things for ordinary users.
//
// It owns the start of the program in the namespace, and the words about what a host
// lacks for that. It never changes the host, and it never knows what the program does.
//
// Invariants:
//   - The program in the namespace ends when the one that started it ends, however that
//     happens, by a SIGTERM.
//   - Whoever is root already gets no namespace.
package rootless
