package execserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// maxSocketPath is what fits into a socket address, with its final NUL.
const maxSocketPath = len(unix.RawSockaddrUnix{}.Path) - 1

// dialer connects to a socket, however long its path is.
type dialer struct{ socket string }

func (d dialer) dial(ctx context.Context) (*net.UnixConn, error) {
	path := d.socket
	if len(path) > maxSocketPath {
		// The directory gets a short name while it is open.
		dir, err := unix.Open(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("connect to %s: %w", d.socket, err)
		}
		defer unix.Close(dir)
		path = fmt.Sprintf("/proc/self/fd/%d/%s", dir, filepath.Base(path))
	}
	var netDialer net.Dialer
	conn, err := netDialer.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	return conn.(*net.UnixConn), nil
}

// awaitFile waits until a file exists. It looks about once per millisecond,
// which takes a few microseconds of it: containers start one by one, and each
// millisecond is one of an action that waits for a cold runner.
func awaitFile(ctx context.Context, path string) error {
	ticker := time.NewTicker(500 * time.Microsecond)
	defer ticker.Stop()
	for {
		if _, err := os.Lstat(path); err == nil || !errors.Is(err, os.ErrNotExist) {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
		}
	}
}
