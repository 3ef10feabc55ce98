// Package memory is a Store that keeps blobs in memory.
//
// It owns a byte budget with eviction by least recent use, and leases. It never
// touches a file, and keeps no blob longer than the process lives: it serves
// tests, benchmarks (the ceiling that other stores are compared with) and hosts
// without a disk to spare.
//
// Invariants:
//   - Stored bytes never exceed the budget; those on their way in come on top.
//   - A blob's bytes never change once they are in the store, and no caller
//     gets a slice of them.
package memory
