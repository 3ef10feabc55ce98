// Package console is the HTTP side of a server: what a person or a monitor
// looks at, and the orders that an operator gives. It owns the pages and their JSON; it
// shows what others know and never decides anything itself.
//
// Invariants:
//   - To look at a page changes nothing. Orders come by POST, from operators, and never
//     from a page of another site.
//   - Everything that came from a client is escaped.
//   - Nothing is loaded from another server.
package console
