package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// mustNotLink says what the program that is mounted into every runner stays
// free of, and why.
var mustNotLink = map[string]string{
	"github.com/containers/":                           "podman is driven from the outside",
	"go.opentelemetry.io/":                             "telemetry lives in hearth",
	"github.com/bazelbuild/":                           "no SDK: it knows nothing of the Remote Execution API",
	"github.com/hearth-build/hearth/cas":               "it knows nothing of digests",
	"github.com/hearth-build/hearth/reapi":             "it knows nothing of the Remote Execution API",
	"github.com/hearth-build/hearth/runners":           "it is what runs in them",
	"google.golang.org/genproto/googleapis/bytestream": "it stores nothing",
	"golang.org/x/net/trace":                           "it doubles the size: build with -tags=grpcnotrace",
	"runtime/cgo":                                      "it needs no libc: build with CGO_ENABLED=0",
}

// TestDependencies compares what is linked with deps.txt, so that a new
// dependency is a decision. When it is one, run in this directory:
//
//	CGO_ENABLED=0 go list -tags=grpcnotrace -deps -f '{{if not .Standard}}{{.ImportPath}}{{end}}' . | sort > deps.txt
func TestDependencies(t *testing.T) {
	list := func(format string) []string {
		cmd := exec.Command("go", "list", "-tags=grpcnotrace", "-deps", "-f", format, ".")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "LC_ALL=C")
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("go list: %v", err)
		}
		return strings.Fields(string(out))
	}
	for _, dep := range list("{{.ImportPath}}") {
		for prefix, why := range mustNotLink {
			if strings.HasPrefix(dep, prefix) {
				t.Errorf("links %s, but must not: %s", dep, why)
			}
		}
	}
	recorded, err := os.ReadFile("deps.txt")
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for dep := range strings.FieldsSeq(string(recorded)) {
		known[dep] = true
	}
	for _, dep := range list("{{if not .Standard}}{{.ImportPath}}{{end}}") {
		if !known[dep] {
			t.Errorf("links %s, which deps.txt does not list", dep)
		}
		delete(known, dep)
	}
	for dep := range known {
		t.Errorf("deps.txt lists %s, which is not linked any more", dep)
	}
}
