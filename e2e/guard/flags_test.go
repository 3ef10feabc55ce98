package guard_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestFlagsPageIsThatOfTheProgram: what a page says of flags that nobody
// regenerates was true once.
func TestFlagsPageIsThatOfTheProgram(t *testing.T) {
	have, err := os.ReadFile(filepath.Join(root, "docs/flags.md"))
	if err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	cmd := exec.CommandContext(t.Context(), "go", "run", "./cmd/hearth", "manual", "markdown")
	cmd.Dir, cmd.Stderr = root, &said
	want, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, &said)
	}
	if !bytes.Equal(have, want) {
		t.Error("docs/flags.md is not what the definitions of the flags make of it: run make fmt")
	}
}
