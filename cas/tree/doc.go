// Package tree turns Directory graphs into directories and back: it loads and
// validates the input root of an action (Load), keeps what it is made of from
// being evicted (Keeper), makes it appear on disk (Stager, Workspace), prepares and collects
// the outputs that a Command declares (Prepare, Capture), and deletes what is no
// longer used.
//
// It owns everything that the Remote Execution API says about Directory, Tree
// and output paths. It knows digests and directories, and nothing of
// containers, actions, queues or gRPC; it never looks outside the directory
// that it is given, and never changes an inode that belongs to the store.
//
// Invariants:
//   - A Graph in hand is valid: what is staged from it needs no second check.
//   - No path from outside is resolved without openat2(RESOLVE_BENEATH), or
//     without following symbolic links at all; below the place of a tree nothing
//     is written, read or deleted through a link that leads out of it.
//   - What is staged stays readable until it is removed, whatever the store loses
//     meanwhile.
//   - A digest in a result is the digest of bytes that are in the store.
//   - What a client did wrong is an ErrInvalid, what an action did wrong an
//     ErrOutput, what a store lacks a *cas.MissingError; all else is the host's.
package tree
