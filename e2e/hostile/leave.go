package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// leave leaves files and other objects wherever it can, and processes that hold
// all kinds of things.
func leave([]string) error {
	var left []string
	// Whoever may write to where programs are does that to his own copy.
	for _, dir := range []string{"/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue", "/run", "/run/lock", "/hearth", "/hearth/ctl", "/hearth/bin", "/hearth/work", ".."} {
		for what, make := range kinds() {
			if err := make(filepath.Join(dir, "left-"+what)); err == nil {
				left = append(left, dir+"/"+what)
			}
		}
	}
	for what, make := range objects() {
		if err := make(); err != nil {
			return fmt.Errorf("leave %s: %w", what, err)
		}
		left = append(left, what)
	}
	if os.Getuid() == 0 { // what belongs to others is harder to remove
		for _, dir := range []string{"/tmp", "/dev/shm"} {
			if err := asOther(func() error { return deepen(filepath.Join(dir, "others"), 10, 0) }); err != nil {
				return err
			}
		}
		// Its own temporary directory itself.
		if err := errors.Join(os.Chmod("/tmp", 0o700), os.Chown("/tmp", 0, 0)); err != nil && !errors.Is(err, unix.EPERM) {
			return err
		}
	}
	fmt.Println("left", strings.Join(left, " "))
	return daemons()
}

// asOther runs f as another user, which root can become.
func asOther(f func() error) error {
	const keep = -1
	if err := unix.Setresuid(keep, 1234, keep); err != nil {
		return err
	}
	return errors.Join(f(), unix.Setresuid(keep, 0, keep))
}

func kinds() map[string]func(path string) error {
	return map[string]func(path string) error{
		"file":      func(path string) error { return os.WriteFile(path, []byte("left"), 0o6777) },
		"directory": func(path string) error { return deepen(path, 300, 0) },
		"link":      func(path string) error { return os.Symlink("/etc/passwd", path) },
		"fifo":      func(path string) error { return unix.Mkfifo(path, 0o666) },
		"socket":    func(path string) error { return unix.Mknod(path, unix.S_IFSOCK|0o666, 0) },
		"device":    func(path string) error { return unix.Mknod(path, unix.S_IFCHR, 0) }, // a whiteout: all may
	}
}

// deepen makes a very deep tree of directories, each with a file, and a mode.
func deepen(path string, depth int, mode os.FileMode) error {
	if err := os.Mkdir(path, 0o700); err != nil {
		return err
	}
	dir, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	for range depth {
		if err := unix.Mkdirat(dir, "\xff\n*d", 0o700); err != nil {
			return err
		}
		next, err := unix.Openat(dir, "\xff\n*d", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		if err := errors.Join(unix.Mkfifoat(next, "-rf", 0), unix.Fchmod(dir, uint32(mode)), unix.Close(dir)); err != nil {
			return err
		}
		dir = next
	}
	return errors.Join(unix.Fchmod(dir, uint32(mode)), unix.Close(dir))
}

// objects are what has no name in a directory, or is shared by more than that.
func objects() map[string]func() error {
	call := func(number, a, b, c uintptr) error {
		if _, _, errno := unix.RawSyscall(number, a, b, c); errno != 0 {
			return errno
		}
		return nil
	}
	return map[string]func() error{
		"shared memory":  func() error { return call(unix.SYS_SHMGET, 4711, 4096, unix.IPC_CREAT|0o600) },
		"semaphores":     func() error { return call(unix.SYS_SEMGET, 4711, 3, unix.IPC_CREAT) },
		"message queue":  func() error { return call(unix.SYS_MSGGET, 4711, unix.IPC_CREAT|0o600, 0) },
		"POSIX queue":    messageQueue,
		"limits":         func() error { return unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 100, Max: 100}) },
		"niceness":       func() error { return unix.Setpriority(unix.PRIO_PGRP, 0, 10) },
		"abstract name":  func() error { return lend("unix", "@hearth-e2e-left") },
		"port":           func() error { return lend("tcp", "127.0.0.1:4711") },
		"memory in file": func() error { _, err := unix.MemfdCreate("left", 0); return err },
	}
}

func messageQueue() error {
	name := append([]byte("left-queue"), 0)
	fd, _, errno := unix.RawSyscall6(unix.SYS_MQ_OPEN, uintptr(unsafe.Pointer(&name[0])), unix.O_CREAT|unix.O_RDWR, 0o600, 0, 0, 0)
	if errno != 0 {
		return errno
	}
	return unix.Close(int(fd))
}

// lend listens for as long as daemons live.
func lend(network, address string) error {
	fd, sa, err := socketFor(network, address)
	if err != nil {
		return err
	}
	return errors.Join(unix.Bind(fd, sa), unix.Listen(fd, 1))
}

func socketFor(network, address string) (int, unix.Sockaddr, error) {
	if network == "unix" {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		return fd, &unix.SockaddrUnix{Name: address}, err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	return fd, &unix.SockaddrInet4{Port: 4711, Addr: [4]byte{127, 0, 0, 1}}, err
}

// daemons starts processes that are nobody's, in sessions of their own, with the
// input root as directory, and files in it and in /tmp open and locked.
func daemons() error {
	for range 5 {
		held, err := os.OpenFile("held", os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return err
		}
		gone, err := os.CreateTemp("/tmp", "held")
		if err != nil {
			return err
		}
		cmd := exec.Command(os.Args[0], "wait")
		cmd.ExtraFiles = []*os.File{held, gone}
		cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true}
		if err := errors.Join(unix.Flock(int(held.Fd()), unix.LOCK_SH), os.Remove(gone.Name()), cmd.Start()); err != nil {
			return err
		}
	}
	return nil
}

// wait goes on, whatever it is told but SIGKILL.
func wait([]string) error {
	ignoreSignals()
	time.Sleep(time.Hour)
	return nil
}
