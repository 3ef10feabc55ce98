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
