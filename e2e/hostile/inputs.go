package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// inputs does to every file of the input root all that a file can suffer, and
// says which of it was possible.
func inputs([]string) error {
	var files []string
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && path != filepath.Base(os.Args[0]) {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		return err
	}
	done, harms := map[string]int{}, byDescriptor()
	maps.Copy(harms, byName())
	for _, path := range files {
		for what, harm := range harms {
			if err := harm(path); err == nil {
				done[what]++
			}
		}
	}
	fmt.Printf("%d files: %v\n", len(files), done)
	for _, path := range files {
		if err := errors.Join(os.Rename(path, path+".moved"), os.WriteFile(path, []byte("forged"), 0o777)); err != nil {
			return err // the directories are its own
		}
		if filepath.Base(path) != "small" {
			if err := os.Remove(path + ".moved"); err != nil {
				return err
			}
		}
	}
	return os.Symlink("/etc/passwd", "new")
}

func byDescriptor() map[string]func(path string) error {
	opened := func(flags int, do func(f *os.File) error) func(string) error {
		return func(path string) error {
			f, err := os.OpenFile(path, flags, 0)
			if err != nil {
				return err
			}
			return errors.Join(do(f), f.Close())
		}
	}
	return map[string]func(path string) error{
		"write": opened(os.O_WRONLY, func(f *os.File) error {
			_, err := f.WriteAt([]byte("X"), 0)
			return err
		}),
		"append": opened(os.O_WRONLY|os.O_APPEND, func(f *os.File) error {
			_, err := f.WriteString("more")
			return err
		}),
		"map": opened(os.O_RDWR, func(f *os.File) error { return scribbleMapped(f, unix.MAP_SHARED) }),
		"map what is read-only": opened(os.O_RDONLY, func(f *os.File) error {
			return scribbleMapped(f, unix.MAP_SHARED)
		}),
		"punch a hole": opened(os.O_RDWR, func(f *os.File) error {
			return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 4096)
		}),
		"change by /proc": opened(os.O_RDONLY, func(f *os.File) error {
			again, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), os.O_WRONLY|os.O_TRUNC, 0)
			if err != nil {
				return err
			}
			return again.Close()
		}),
		"make immutable": opened(os.O_RDONLY, func(f *os.File) error {
			return unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, unix.STATX_ATTR_IMMUTABLE)
		}),
		"lease": opened(os.O_RDONLY, func(f *os.File) error {
			_, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_RDLCK)
			return err
		}),
	}
}

func byName() map[string]func(path string) error {
	return map[string]func(path string) error{
		"truncate": func(path string) error { return os.Truncate(path, 1) },
		"chmod":    func(path string) error { return os.Chmod(path, 0o4777) },
		"chown":    func(path string) error { return os.Chown(path, 65534, 65534) },
		"touch":    func(path string) error { return unix.Utimes(path, make([]unix.Timeval, 2)) },
		"xattr":    func(path string) error { return unix.Setxattr(path, "user.hearth", []byte("x"), 0) },
		"acl": func(path string) error {
			return unix.Setxattr(path, "system.posix_acl_access", []byte{2, 0, 0, 0, 1, 0, 7, 0, 255, 255, 255, 255, 4, 0, 7, 0, 255, 255, 255, 255, 32, 0, 7, 0, 255, 255, 255, 255}, 0)
		},
		"link out": func(path string) error {
			return errors.Join(os.Link(path, "/tmp/"+filepath.Base(path)), os.WriteFile("/tmp/"+filepath.Base(path), []byte("X"), 0o600))
		},
		"link": func(path string) error {
			return errors.Join(os.Link(path, path+".link"), os.WriteFile(path+".link", []byte("X"), 0o600))
		},
	}
}

// scribbleMapped writes to a mapping of the file.
func scribbleMapped(f *os.File, flags int) error {
	memory, err := unix.Mmap(int(f.Fd()), 0, 1, unix.PROT_READ|unix.PROT_WRITE, flags)
	if errors.Is(err, unix.EACCES) {
		// What is mapped only for reading must not become writable, either.
		if memory, err = unix.Mmap(int(f.Fd()), 0, 1, unix.PROT_READ, flags); err == nil {
			err = errors.Join(unix.Mprotect(memory, unix.PROT_READ|unix.PROT_WRITE))
		}
	}
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil && info.Size() > 0 { // there is a page to write to
		memory[0] = 'X'
		err = unix.Msync(memory, unix.MS_SYNC)
	}
	return errors.Join(err, unix.Munmap(memory))
}
