// Package reapi is the wire: the services of the Remote Execution API version 2
// and what belongs to them (ByteStream, health, reflection), one file per
// service.
//
// It owns resource names, what each service checks in a request, the limits of
// messages, the compressors of blobs on the wire (codec.go), uploads that broke
// off and wait for their client (uploads.go), and the one table that turns
// errors into status codes (errors.go).
// It never runs, stores or schedules anything itself: that is what cas and
// reapi/execution are for.
//
// Invariants:
//   - Malformed input gets INVALID_ARGUMENT and changes nothing.
//   - A blob or result of one instance name is never visible under another.
//   - The memory of a call is bounded, whatever sizes a client claims.
//   - No RPC that Capabilities promise answers UNIMPLEMENTED, and the others do.
package reapi
