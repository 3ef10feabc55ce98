// Package cas is the vocabulary of content-addressed storage: a Digest names a
// blob by digest function, hash and size; a Store holds blobs under their
// digests.
//
// It owns the two checks that everything else relies on: whether a digest that
// came from outside is well formed (ParseDigest), and whether bytes are what
// their digest claims (Content, the one verifying reader). A Putter accepts
// nothing but a Content, so no blob can enter a store unchecked.
//
// It never touches the network, containers or gRPC status codes, and imports
// no other package of hearth.
//
// Invariants:
//   - Two digests are the same blob only if function, hash and size are equal.
//   - A blob is visible whole or not at all, and only after its hash matched.
//   - The empty blob of every digest function is always present.
package cas
