// Package console is the HTTP side of a server: what a person or a monitor
// looks at. It owns the pages and their JSON; it shows what others know and
// never changes anything.
//
// Invariants:
//   - Everything that came from a client is escaped.
//   - Nothing is loaded from another server.
package console
