// Package actioncache keeps the results of actions under the digests of the
// actions.
//
// It owns the Cache seam, a cache in memory and one on disk, the rules for a
// result that comes from outside (Validate) and the completeness check
// (Complete), which hides a result as soon as a blob it names is gone.
//
// It never decides whether a result is worth keeping, and never reads the
// contents of output files.
//
// Invariants:
//   - What Get returns is what Put was given last, or ErrNotFound; the store
//     that keeps results on disk sees to it that a torn or flipped one counts as
//     absent.
//   - Callers own the messages they pass and get: a cache shares memory with
//     nobody.
//   - A result with nothing in it is a result, and not absence.
package actioncache
