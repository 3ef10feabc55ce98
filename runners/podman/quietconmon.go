package podman

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"go.podman.io/common/pkg/config"
)

// quietName is that of the script in the Backend's own directory.
const quietName = "conmon"

// quietScript runs conmon without what podman wants it to start when the container has
// ended: another podman, to clean up. A runner that ended is removed at once, which does
// the same, and that podman takes more of the processors than the service does for the
// whole life of a container. What follows an exec stays, since nobody removes the session.
const quietScript = `#!/bin/sh
# Written by hearth, for the podman service that it starts.
conmon=%s
case " $* " in
*" --exec-process-spec "*) exec "$conmon" "$@" ;;
esac
drop=no
for arg do
  shift
  case $drop,$arg in
  yes,*) drop=no ;;
  no,--exit-command | no,--exit-command-arg) drop=yes ;;
  *) set -- "$@" "$arg" ;;
  esac
done
exec "$conmon" "$@"
`

// writeQuietConmon makes the script and returns its path; none where it is podman that
// has to find conmon, or to explain why it does not.
func writeQuietConmon(dir string, log *slog.Logger) (string, error) {
	var conmon string
	conf, err := config.New(nil)
	if err == nil {
		conmon, err = conf.FindConmon()
	}
	if _, noShell := os.Stat("/bin/sh"); err == nil {
		err = noShell
	}
	if err != nil {
		log.Info("each container that ends starts a podman to clean up after it", "because", err)
		return "", nil
	}
	path := filepath.Join(dir, quietName)
	quoted := "'" + strings.ReplaceAll(conmon, "'", `'\''`) + "'"
	if err := os.WriteFile(path, fmt.Appendf(nil, quietScript, quoted), 0o700); err != nil {
		return "", fmt.Errorf("write how podman starts conmon: %w", err)
	}
	return path, nil
}
