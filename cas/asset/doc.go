// Package asset brings content into the store that clients name by URI instead
// of by digest: it downloads from origins over HTTP and HTTPS, unpacks archives
// into Directory graphs, and remembers which content belongs to which URI and
// qualifiers, also as clients told it (Push).
//
// It owns what the Remote Asset API means: qualifiers, checksums, which
// association may answer which request, which addresses may be talked to
// (Origin), and what archives may contain. It never speaks gRPC, and never
// logs: URIs and headers may carry secrets.
//
// What may answer a request, in this order:
//   - Content that was pushed for one of its URIs, with exactly its set of
//     qualifiers. Header qualifiers say how to fetch and not what, so a push
//     without them also answers a request with them.
//   - Content that was fetched before. If the request has a checksum, only the
//     checksum and the canonical id count, whatever the URI; otherwise the URI,
//     the canonical id and all headers must be equal.
//   - The origins, in the order of the URIs; those that failed in a way that
//     may pass are tried again.
//
// Repositories of version control systems (resource_type application/x-git,
// vcs.branch, vcs.commit) are answered from pushes only: nothing here clones.
// Archives are tar (plain, gzip, bzip2, zstd) and zip; xz is not supported.
//
// Invariants:
//   - A digest that is returned is in the store, with all that a Directory
//     graph or the references of a push name.
//   - Content that satisfies no checksum of the request is never returned, and
//     a transfer that ended early is never stored.
//   - No connection is made to an address that is not public, unless it was
//     allowed. It is the resolved address of each connection that counts.
//   - Headers go to the origin that the client named and to no other.
//   - Secrets are kept in no place: associations have hashes for names.
//   - Two Fetchers share nothing but their Origin, which holds no content.
package asset
