// Package console is the HTTP side of a server: what a person or a monitor
// looks at, and the orders that an operator gives. It owns the pages, their JSON and the
// streams of what changes on them; it shows what others know and never decides anything
// itself.
//
// At one URL there are three forms of the same, as the Accept header wants: a page for a
// browser, JSON for others, and for the script of a page that is open an event each time
// that the page would look otherwise.
//
// Invariants:
//   - To look at a page changes nothing but the order in which the store forgets. Orders
//     come by POST, from operators, and never from a page of another site.
//   - Everything that came from a client is escaped; a blob is never shown as a page.
//   - Who may not see something gets the answer of what is not there.
//   - Nothing is loaded from another server, and no page needs its script.
package console
