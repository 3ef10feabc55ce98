// Package access says who calls a server, and what they may do there.
//
// It owns credentials, the principals that they stand for, and the roles that a
// principal has in an instance. It never speaks a protocol: reapi and
// reapi/console take credentials from their calls, ask here, and turn the errors into
// statuses.
//
// Invariants:
//   - Who shows credentials that are not known is nobody, whatever else they show.
//   - A token is kept and compared by its hash only, and is in no message.
//   - What a caller may do is decided by names that they brought, before anything
//     is looked up, so that a refusal says nothing about what is there.
package access
