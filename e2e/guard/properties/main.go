// Command properties writes docs/platform-properties.md: the table of the platform
// properties that have a meaning to hearth, as the code has them. It reads nothing
// and writes to the working directory, the repository's root.
//
// It owns the form of that page. It never says what a property does: that is in
// the descriptors of the runners package, beside the code that does it.
package main

import (
	"fmt"
	"os"

	"github.com/hearth-build/hearth/runners"
)

const pagePath = "docs/platform-properties.md"

func main() {
	if err := os.WriteFile(pagePath, page(runners.PropertyDocs()), 0o644); err != nil {
		fmt.Fprintln(os.Stderr, "properties:", err)
		os.Exit(1)
	}
}
