// Package e2e tests hearth as its users meet it: real Bazels build and test the
// workspace in e2e/workspace on a real `hearth serve` with real containers.
//
// It owns that workspace, the scripts in e2e/setup that bring Bazel 4.2 and 7.7
// to a machine without a network, and the tests. It never imports a package of
// hearth: what a test asserts is what Bazel prints, writes and returns.
//
// Invariants: every Bazel and hearth that a test starts is gone when it ends,
// with its containers; everything a test writes is below its temporary directory.
package e2e
