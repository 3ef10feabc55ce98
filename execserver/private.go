package execserver

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// private is the directory of the server's socket. Root in the container can
// write to it, and the host reads it.
type private struct {
	path    string
	entries map[string]uint64 // inode numbers by name
}

// openPrivate remembers what is in the directory; nil if there is none.
func openPrivate(path string) (*private, error) {
	if path == "" {
		return nil, nil
	}
	d := &private{path: path}
	var err error
	d.entries, err = d.read()
	return d, err
}

func (d *private) read() (map[string]uint64, error) {
	list, err := os.ReadDir(d.path)
	if err != nil {
		return nil, fmt.Errorf("look at the exec server's socket: %w", err)
	}
	entries := map[string]uint64{}
	for _, e := range list {
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(d.path, e.Name()), &st); err != nil {
			return nil, fmt.Errorf("look at the exec server's socket: %w", err)
		}
		entries[e.Name()] = st.Ino
	}
	return entries, nil
}

// check fails if anything has changed.
func (d *private) check() error {
	if d == nil {
		return nil
	}
	now, err := d.read()
	if err != nil {
		return err
	}
	if !maps.Equal(now, d.entries) {
		names := slices.Sorted(maps.Keys(now))
		return fmt.Errorf("a command changed the directory of the exec server's socket, where there is now %.10q", names)
	}
	return nil
}
