// Package castest is the conformance suite of cas.Store: the test of a Store
// calls Test, which checks every promise that the interface makes, and those of
// the abilities (cas.Linker, cas.Leaser) that the Store has.
//
// It owns what a Store must do and nothing of how one does it: it never knows an
// implementation, and looks at a store through package cas alone.
//
// Invariant: what a test of the suite asks for is promised by package cas; a
// Store that fails one is wrong, or the promise is.
package castest
