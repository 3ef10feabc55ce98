package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hearth-build/hearth/runners"
)

// TestPageIsThatOfTheCode: what a page says that nobody regenerates was true once.
func TestPageIsThatOfTheCode(t *testing.T) {
	have, err := os.ReadFile(filepath.Join("../../..", pagePath))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, page(runners.PropertyDocs())) {
		t.Errorf("%s is not what the descriptors of properties make of it: run make fmt", pagePath)
	}
}

func TestPageShowsEverything(t *testing.T) {
	got := string(page([]runners.PropertyDoc{
		{Name: "a", Aliases: []string{"b"}, Values: "x|y", Default: "x", Meaning: "Does it.", Keyed: true},
		{Name: "c", Values: "any", Meaning: "Does that to *."},
	}))
	for _, want := range []string{"\n| `a`, `b` | x\\|y | x | Does it. | yes |\n", "\n| `c` | any | - | Does that to \\*. | no |\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
}
