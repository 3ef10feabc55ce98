package execserver

import (
	"fmt"
	"runtime/debug"
)

// Version names the source that this program was built from, or is empty when
// that is not known, as in tests.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, setting := range info.Settings {
		if setting.Key == "vcs.revision" {
			return setting.Value
		}
	}
	return ""
}

// sameBuild fails if both ends know their version and do not agree: the
// protocol promises nothing between builds.
func sameBuild(client, server string) error {
	if client == "" || server == "" || client == server {
		return nil
	}
	return fmt.Errorf("hearth is of build %s, but its exec server is of build %s: install hearth and "+
		"hearth-execserver from one build", client, server)
}
