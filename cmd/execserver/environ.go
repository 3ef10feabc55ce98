package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// shedEnvironment starts the program again, as the same process, if the image
// has variables that the Go runtime or gRPC would obey, such as GODEBUG.
func shedEnvironment() error {
	steers := func(entry string) bool {
		return strings.HasPrefix(entry, "GO") || strings.HasPrefix(entry, "GRPC_")
	}
	if !slices.ContainsFunc(os.Environ(), steers) {
		return nil
	}
	path := os.Args[0] // as an OCI runtime was given it; no /proc is needed then
	if !filepath.IsAbs(path) {
		var err error
		if path, err = os.Executable(); err != nil {
			return fmt.Errorf("leave the image's environment: %w", err)
		}
	}
	if err := syscall.Exec(path, os.Args, nil); err != nil {
		return fmt.Errorf("leave the image's environment: run %s: %w", path, err)
	}
	return nil
}
