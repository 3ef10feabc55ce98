package disk

import (
	"fmt"
	"os"
	"testing"
)

// childEnv makes the test binary run one of these in a process of its own, in
// the directory that its first argument names.
const childEnv = "HEARTH_DISK_TEST_CHILD"

func TestMain(m *testing.M) {
	child, ok := map[string]func(dir string) error{
		"":       nil,
		"upload": uploadForEver,
		"full":   useFullDisk,
		"fill":   fillDisk,
		"die":    fillAndDie,
	}[os.Getenv(childEnv)]
	switch {
	case !ok:
		fmt.Fprintln(os.Stderr, "no such child:", os.Getenv(childEnv))
		os.Exit(2)
	case child == nil:
		os.Exit(m.Run())
	}
	if err := child(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
