package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func ignoreSignals() {
	signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT)
}

// tree leaves an input root that is hard to remove, with outputs that are not
// what they seem.
func tree([]string) error {
	for what, make := range kinds() {
		if err := make("left-" + what); err != nil && what != "device" {
			return fmt.Errorf("make a %s: %w", what, err)
		}
	}
	odd := []string{"-rf", "a\nb", "\xff\xfe", "*", strings.Repeat("n", 255), " ", "…", "\x01"}
	for _, name := range odd {
		if err := os.WriteFile(name, []byte(name), 0); err != nil {
			return err
		}
	}
	if f, err := os.Create("immutable"); err == nil {
		err = unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, unix.STATX_ATTR_IMMUTABLE)
		fmt.Printf("immutable: %v\n", errors.Join(err, f.Close()))
	}
	// An output that is another name of an input, which is not the action's own.
	fmt.Printf("hard link: %v\n", os.Link("small", "linked"))
	for name, target := range links() {
		if err := os.Symlink(target, name); err != nil {
			return err
		}
	}
	if err := os.Mkdir("out", 0o755); err != nil {
		return err
	}
	for name, target := range links() {
		if err := os.Symlink(target, filepath.Join("out", name)); err != nil {
			return err
		}
	}
	return errors.Join(os.Chmod("many", 0), os.Chmod("dir", 0), os.Chmod(".", 0))
}

// links lead out of the input root.
func links() map[string]string {
	return map[string]string{
		"absolute": "/etc/shadow", "relative": "../../../../../../etc/shadow", "up": "../..", "beside": "../root", "process": "/proc/self/root/etc/shadow",
		"descriptor": "/proc/self/fd/0", "loop": "loop",
	}
}

// swap starts a process that goes on to replace outputs by links, and ends.
func swap([]string) error {
	if err := errors.Join(os.MkdirAll("out/dir", 0o755), os.WriteFile("out/dir/passwd", []byte("mine\n"), 0o644), os.Symlink("/etc", "trap")); err != nil {
		return err
	}
	cmd := exec.Command(os.Args[0], "swapping")
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	for range 1000 { // until it is at it
		if target, err := os.Readlink("out/dir"); err == nil && target == "/etc" {
			return nil
		}
		time.Sleep(time.Millisecond)
	}
	return errors.New("nothing was swapped within a second")
}

// swapping exchanges a directory and a link to one of the host.
func swapping([]string) error {
	ignoreSignals()
	for {
		if err := unix.Renameat2(unix.AT_FDCWD, "out/dir", unix.AT_FDCWD, "trap", unix.RENAME_EXCHANGE); err != nil {
			return err
		}
	}
}

func socket(args []string) error { return unix.Mknod(args[0], unix.S_IFSOCK|0o666, 0) }

// bomb makes processes that make processes, until there can be no more.
func bomb([]string) error {
	ignoreSignals()
	for range 10_000 {
		cmd := exec.Command("/bin/sh", "-c", "f() { f & f & sleep 1000; }; f 2> /dev/null")
		cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true}
		if err := cmd.Start(); err != nil {
			fmt.Printf("no more: %v\n", err)
			return nil
		}
	}
	return errors.New("there was no end of processes")
}
