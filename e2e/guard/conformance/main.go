// Command conformance writes docs/conformance.md: each number of the conformance
// checklist (docs/conformance.list), with the tests that cite it or the reason
// why none does. It reads the working directory, the repository's root.
//
// It owns the form of citations and of that page. It never judges whether a test
// shows what it cites: that is for whoever writes and reads the test.
package main

import (
	"fmt"
	"os"
	"path/filepath"
)

const (
	listPath = "docs/conformance.list"
	pagePath = "docs/conformance.md"
)

func main() {
	if err := regenerate("."); err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(1)
	}
}

// regenerate writes the page of the repository at root.
func regenerate(root string) error {
	list, cited, err := read(root)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(root, pagePath), page(list, cited), 0o644)
}

// read is the checklist of the repository at root, and what its tests cite.
func read(root string) (checklist, citations, error) {
	text, err := os.ReadFile(filepath.Join(root, listPath))
	if err != nil {
		return nil, nil, err
	}
	list, err := parseList(string(text))
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", listPath, err)
	}
	cited, err := citationsBelow(root)
	if err != nil {
		return nil, nil, err
	}
	return list, cited, nil
}
