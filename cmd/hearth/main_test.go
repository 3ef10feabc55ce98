package main

import (
	"fmt"
	"os"
	"testing"
)

// childEnv makes the test binary behave as hearth, for tests that start it.
// Its name is not one of hearth's variables, of which it refuses those it does not know.
const childEnv = "TEST_HEARTH_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		main()
		return
	}
	if err := os.Setenv(childEnv, "1"); err != nil { // of its children
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}
