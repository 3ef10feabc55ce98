// Package disk is a Store that keeps each blob in a file of its own.
//
// It owns one directory: its layout (layout.go alone knows it), an index in
// memory, a byte budget with eviction by least recent use, a floor of free space
// that stays on the file system, leases, links to blobs, and what makes the
// whole safe against crashes without an fsync per blob. A Disk serves any number
// of namespaces, which share the budget and nothing else.
//
// It never computes what a blob should be (package cas does), never repairs a
// blob (it drops what is wrong, and the next upload heals it), and never deletes
// a file that it does not know, except in its own tmp directory.
//
// Invariants:
//   - A blob is in the index only after its file is whole and in place. What is
//     not in the index is not served, whatever lies on the disk.
//   - A file in place is never written to. One whose size, mode or time of
//     modification says otherwise is checked by hash before it is served again.
//   - After an unclean stop, files younger than the last sync point are checked
//     by hash before they are reported present or served.
//   - Stored and reserved bytes together never exceed the budget. Bytes are
//     reserved before they are written.
//   - At most one goroutine works on the files of a blob (flight); others wait.
//   - A leased blob is not evicted.
//
// Lock order: Disk.life, then index.mu. No file is touched under index.mu.
package disk
