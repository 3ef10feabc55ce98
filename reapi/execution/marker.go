package execution

import (
	"os"
	"path/filepath"
)

// An action that finds that it has changed more of its runner than it should says
// so by leaving a file of one of these names in its input root, the second of which
// is BuildBuddy's: no action after it gets the runner. What kind of file it is, and
// what is in it, does not matter.
const (
	retireMarker           = ".HEARTH_DO_NOT_RECYCLE"
	retireMarkerBuildBuddy = ".BUILDBUDDY_DO_NOT_RECYCLE"
)

// retireIfAsked makes the end of the action that of its runner.
func (a *attempt) retireIfAsked() {
	if !a.job.platform.Recycle {
		return
	}
	for _, name := range []string{retireMarker, retireMarkerBuildBuddy} {
		if _, err := os.Lstat(filepath.Join(a.root, name)); err == nil {
			a.lease.Retire("its last action left " + name)
		}
	}
}
