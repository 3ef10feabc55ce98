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
		if err := eachEntry(buf[:n], f); err != nil {
			return err
		}
	}
}

// eachEntry calls f for each entry that the kernel wrote into buf.
func eachEntry(buf []byte, f func(dirent) error) error {
	for len(buf) > direntName {
		length := binary.NativeEndian.Uint16(buf[direntReclen:])
		name, _, _ := bytes.Cut(buf[direntName:length], []byte{0})
		entry := dirent{name: string(name), kind: buf[direntKind]}
		buf = buf[length:]
		if entry.name == "." || entry.name == ".." {
			continue
		}
		if err := f(entry); err != nil {
			return err
		}
	}
	return nil
}

// kindOf is the DT_ constant of an entry that is not followed.
func kindOf(st *unix.Stat_t) uint8 { return uint8(st.Mode & unix.S_IFMT >> 12) }
