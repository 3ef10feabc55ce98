package execserver

import (
	"context"
	"fmt"
	"os/exec"
	"runtime/debug"
	"strings"
	"time"
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

// Name is what the program calls itself, before its version.
const Name = "hearth-execserver"

// checkTimeout is far more than a program takes to say what it is.
const checkTimeout = 20 * time.Second

// CheckProgram fails unless a program is an exec server, of the build of this program:
// better before a container is started with it than in each.
func CheckProgram(ctx context.Context, program string) error {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, program, "--version").Output()
	if err != nil {
		return fmt.Errorf("ask the exec server what it is: %s --version: %w", program, err)
	}
	version, ok := strings.CutPrefix(strings.TrimSpace(string(out)), Name)
	if !ok {
		return fmt.Errorf("%s is not the exec server: its --version prints %.100q", program, out)
	}
	return sameBuild(Version(), strings.TrimSpace(version))
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
