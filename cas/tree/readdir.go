package tree

import (
	"bytes"
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// dirent is one entry as the directory has it; kind is a DT_ constant, and
// DT_UNKNOWN on some file systems.
type dirent struct {
	name string
	kind uint8
}

// The layout of struct linux_dirent64.
const (
	direntReclen = 16
	direntKind   = 18
	direntName   = 19
)

// readDir calls f for each entry of the directory that fd is positioned in,
// until f fails. f may remove the entry.
func readDir(fd int, f func(dirent) error) error {
	buf := make([]byte, 16<<10)
	for {
		n, err := unix.Getdents(fd, buf)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil || n == 0:
			return err
		}
		for rest := buf[:n]; len(rest) > direntName; {
			length := binary.NativeEndian.Uint16(rest[direntReclen:])
			name, _, _ := bytes.Cut(rest[direntName:length], []byte{0})
			if s := string(name); s != "." && s != ".." {
				if err := f(dirent{name: s, kind: rest[direntKind]}); err != nil {
					return err
				}
			}
			rest = rest[length:]
		}
	}
}

// kindOf is the DT_ constant of an entry that is not followed.
func kindOf(st *unix.Stat_t) uint8 { return uint8(st.Mode & unix.S_IFMT >> 12) }
