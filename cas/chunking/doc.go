// Package chunking cuts blobs into chunks by content and puts them together
// again, so that clients move only those chunks of a large blob that they lack.
//
// It owns the chunk boundaries (FastCDC 2020 and RepMaxCDC, the two chunking
// functions of the Remote Execution API), and the mapping from a blob to its
// chunks. It never keeps a mapping on disk, nor one that a client made up: each
// is worked out here from the blob's bytes and can be at any time again, so there
// is nothing that could disagree with the store.
//
// Invariants:
//   - The same bytes with the same parameters have the same chunks, here and in
//     any client.
//   - A mapping is remembered only after the blob's own hash has matched.
//   - A blob or chunk enters a store through the check of its hash alone.
//   - Memory for a split is bounded by the chunking function, not by the blob.
package chunking
