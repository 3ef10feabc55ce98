package execution_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hearth-build/hearth/runners"
	"github.com/hearth-build/hearth/runners/runnertest"
)

// An action that says so is the last of its runner, with all its results.
func TestActionAsksForAnotherRunner(t *testing.T) {
	for _, name := range []string{".HEARTH_DO_NOT_RECYCLE", ".BUILDBUDDY_DO_NOT_RECYCLE"} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.command.OutputPaths = []string{"out"}
			r.program(func(root string, _ runnertest.Process) (runners.Result, error) {
				if err := os.Symlink("nowhere", filepath.Join(root, name)); err != nil {
					return runners.Result{}, err
				}
				return runners.Result{}, os.WriteFile(filepath.Join(root, "out"), nil, 0o600)
			})
			first := r.run(t.Context())
			if first.Err != nil || len(first.Result.GetOutputFiles()) != 1 {
				t.Fatalf("%+v", first)
			}
			r.program(func(string, runnertest.Process) (runners.Result, error) { return runners.Result{}, nil })
			second, _ := reports(t, r.run(t.Context()))
			if got := second.GetRunner(); got.GetWarm() || !strings.Contains(got.GetColdReason(), "retired 0s ago: its last action left "+name) {
				t.Errorf("the next action: %v", got)
			}
		})
	}
}
