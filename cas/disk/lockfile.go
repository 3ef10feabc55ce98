package disk

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// lockDir takes the store for this process. The lock ends with the file
// descriptor, so no crash leaves it behind.
func lockDir(l layout) (*os.File, error) {
	f, err := os.OpenFile(l.lock(), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		owner, _ := io.ReadAll(io.LimitReader(f, 200)) // only to name it
		err = errors.Join(lockError(l, strings.TrimSpace(string(owner)), err), f.Close())
		return nil, err
	}
	text := fmt.Sprintf("process %d (%s)\n", os.Getpid(), os.Args[0])
	err = f.Truncate(0)
	if err == nil {
		_, err = f.WriteAt([]byte(text), 0)
	}
	if err != nil {
		return nil, errors.Join(spaceError(err), f.Close())
	}
	return f, nil
}

func lockError(l layout, owner string, err error) error {
	if !errors.Is(err, unix.EWOULDBLOCK) {
		return fmt.Errorf("lock %s: %w", l.lock(), err)
	}
	if owner == "" {
		owner = "another process"
	}
	return fmt.Errorf("store %s is in use by %s: stop it or choose another directory", l.dir, owner)
}
