//go:build race

package execserver_test

// raceBuild makes the server under test a race-checking program, too.
const raceBuild = true
