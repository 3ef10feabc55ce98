// Package disk is a Store on a local disk: large blobs are files, small blobs
// and records (the results of actions) lie in an embedded key-value library.
//
// It owns one directory: its layout (layout.go alone knows it), an index in
// memory, a byte budget with eviction by least recent use, a floor of free space
// that stays on the file system, leases, links to blobs, and what makes the
// whole safe against crashes without an fsync per blob. A Disk serves any number
// of namespaces, which share the budget and nothing else.
//
// It never computes what a blob should be (package cas does), never repairs a
// blob (it drops what is wrong, and the next upload heals it), and never deletes
// a file that it does not know, except in directories that are its alone.
//
// Invariants:
//   - What is not in the index is not served, whatever lies on the disk. A blob
//     in a file is in the index only after its file is whole and in place; a
//     small one once its bytes are in the queue to the key-value side, from
//     which it is served until it is there.
//   - A file in place is never written to. One whose size, mode or time of
//     modification says otherwise is checked by hash before it is served again.
//     A value is checked by checksum each time it is read.
//   - After an unclean stop, files younger than the last sync point are checked
//     by hash before they are reported present or served. The key-value side
//     then has all from before the sync point, and of the rest what is whole.
//   - Stored and reserved bytes together never exceed the budget. Bytes are
//     reserved before they are written.
//   - At most one goroutine works on the files of a blob (flight); others wait.
//     The key-value side is changed by one goroutine, in the order in which the
//     index changed.
//   - On a disk that fills up, compactions leave to logs, memtables and blobs what
//     these cannot do without; one that had no room makes files go, not itself
//     again at once.
//   - A value lies under its own key, or sealed in a pack with others (pack.go), under one of the
//     two at any time. What moves leaves its old place after it is in the new one.
//   - What is evicted on the key-value side is dropped with its span (spans.go); a
//     restart before that finds it again, as what was used longest ago.
//   - A leased blob is not evicted, and no action's link depends on the store.
//
// A small blob that an action needs as a file gets one (a copy) which stays while
// it is hot. The split is at 32 KiB: a value is quicker to store up to 64 KiB (at
// 1 KiB 9 us against 160 on a busy disk, at 32 KiB 180 against 140 to 1100, the
// work in the background included), and about as quick to read from 16 KiB to
// 32; above, its bytes are copied too often (BenchmarkSplit).
//
// Lock order: Disk.life, then index.mu. No file is touched under index.mu.
package disk
