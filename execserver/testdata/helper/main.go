// Command helper does inside the test's container what a shell cannot.
package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

func main() {
	if err := run(os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(mode string, args []string) error {
	switch mode {
	case "nop":
		return nil
	case "block-signals": // then become another program
		return blockSignals(args)
	case "drop-capabilities": // that let root do what it likes, then become another program
		return dropCapabilities(args)
	case "leak-descriptors":
		return leakDescriptors(args)
	case "connect": // to a socket, and fail if anything answers
		return connect(args[0])
	case "trace": // another process, which stays stopped
		return trace(args)
	case "adopt": // orphans in the place of PID 1, and make some
		return adopt(args)
	case "dig": // a tree that no path can name
		return dig(args[0], args[1])
	}
	return fmt.Errorf("unknown mode %q", mode)
}

func blockSignals(args []string) error {
	runtime.LockOSThread()
	var all unix.Sigset_t
	for i := range all.Val {
		all.Val[i] = ^uint64(0)
	}
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, &all, nil); err != nil {
		return err
	}
	return syscall.Exec(args[0], args, os.Environ())
}

func dropCapabilities(args []string) error {
	runtime.LockOSThread()
	for _, capability := range []uintptr{
		unix.CAP_DAC_OVERRIDE, unix.CAP_DAC_READ_SEARCH, unix.CAP_FOWNER, unix.CAP_SYS_ADMIN, unix.CAP_SYS_PTRACE,
	} {
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, capability, 0, 0, 0); err != nil {
			return err
		}
	}
	return syscall.Exec(args[0], args, os.Environ())
}

func leakDescriptors(args []string) error {
	for range 5 {
		if _, err := unix.Open("/etc/passwd", unix.O_RDONLY, 0); err != nil {
			return err
		}
	}
	return syscall.Exec(args[0], args, os.Environ())
}

func connect(socket string) error {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return err
	}
	defer conn.Close()
	n, err := conn.Read(make([]byte, 1))
	if n > 0 || !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
		return fmt.Errorf("the server answered: %d bytes, %w", n, err)
	}
	return nil
}

// trace starts a program that stops at its first instruction, and once more when
// it is about to end. It says so by making a file, and goes on for ever.
func trace(args []string) error {
	runtime.LockOSThread()
	pid, err := syscall.ForkExec(args[1], args[1:], &syscall.ProcAttr{Sys: &syscall.SysProcAttr{Ptrace: true}})
	if err != nil {
		return err
	}
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(pid, &status, 0, nil); err != nil || !status.Stopped() {
		return fmt.Errorf("wait: %v, %w", status, err)
	}
	if err := syscall.PtraceSetOptions(pid, unix.PTRACE_O_TRACEEXIT); err != nil {
		return err
	}
	if err := os.WriteFile(args[0], nil, 0o600); err != nil {
		return err
	}
	return unix.Pause()
}

// adopt becomes the one to whom orphans go, makes a file and goes on for ever.
func adopt(args []string) error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return err
	}
	sh := []string{"/bin/sh", "-c", "(sleep 1000 & sleep 1000 &) & : > " + args[0]}
	if _, err := syscall.ForkExec(sh[0], sh, nil); err != nil {
		return err
	}
	return unix.Pause()
}

func dig(dir, depth string) error {
	n, err := strconv.Atoi(depth)
	if err != nil {
		return err
	}
	if err := unix.Chdir(dir); err != nil {
		return err
	}
	for range n {
		if err := errors.Join(unix.Mkdir("d", 0o755), unix.Mknod("f", unix.S_IFREG|0o600, 0), unix.Chdir("d")); err != nil {
			return err
		}
	}
	return nil
}
