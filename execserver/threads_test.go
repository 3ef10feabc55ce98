package execserver_test

import (
	"fmt"
	"path/filepath"
	"testing"
)

// The threads that the server may need are there before the first command: while one
// uses up the container's processes there would be none to be had.
func TestThreadsAreThere(t *testing.T) {
	const least = 12
	s := startServer(t, options{})
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", s.pid))
	if err != nil || len(threads) < least {
		t.Errorf("%d threads, want %d, %v", len(threads), least, err)
	}
}
