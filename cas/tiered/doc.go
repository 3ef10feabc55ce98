// Package tiered is a Store whose blobs live in a remote store and are kept in a
// local one as well: what actions read comes from the local disk, and what they
// write is safe only when the remote store has it. The same for action results.
//
// It owns which tier is asked when: one fetch and one upload of a blob at a time,
// however many callers want it; streaming to readers what is still on its way to
// the local tier; the memory of what the remote store was seen to have; and
// bringing back what the remote store has lost and the local tier still holds.
//
// It never speaks to a server, decides what the local tier evicts, or passes a
// blob on whose hash is not proven: the last byte of a blob on its way is held
// back until its hash was right.
//
// Invariants:
//   - FindMissing and Put answer for the remote store, which others rely on, and
//     not for the local copy.
//   - A failure of the local tier costs speed, and fails nothing that the remote
//     store can still do. Where a Put has consumed its content when the local tier
//     fails, the caller has to send it again.
//   - A caller that gives up fails nobody who waits for the same blob; when all
//     have given up, the fetch or upload ends.
//   - Memory is bounded per blob in flight, whatever its size; a slow reader
//     delays the others by a bounded time in all.
//   - A blob whose upload failed may be readable here, as it is whole and right;
//     FindMissing lists it until the remote store has it.
package tiered
