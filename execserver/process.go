package execserver

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// isolate changes what this process has got from whoever started it and would
// hand on to commands, and closes it against them.
func isolate() error {
	syscall.Umask(0o022)
	// A command that runs as root could otherwise trace this process.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("forbid tracing: %w", err)
	}
	// Descriptors that the container engine forgot. close_range would do, but
	// older engines' seccomp profiles do not know it.
	for fd := uintptr(3); fd < 1024; fd++ {
		if _, err := unix.FcntlInt(fd, unix.F_SETFD, unix.FD_CLOEXEC); err != nil && !errors.Is(err, unix.EBADF) {
			return fmt.Errorf("keep descriptor %d from commands: %w", fd, err)
		}
	}
	return nil
}

// catchSignals makes these signals have no effect here, though a command that is
// root may send them, and their default effect in commands. A signal that is ignored when a process is started stays ignored
// in all its descendants unless something catches it, and the Go runtime leaves
// these as they are. A caught SIGPIPE also keeps a broken stderr from ending the
// server.
func catchSignals() (stop func()) {
	resetReserved()
	caught := make(chan os.Signal, 1) // never read; signals beyond the first are dropped
	signal.Notify(caught, syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM, syscall.SIGPIPE,
		syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU, syscall.SIGCONT,
		syscall.SIGQUIT, syscall.SIGABRT, syscall.SIGSEGV, syscall.SIGBUS, syscall.SIGFPE, syscall.SIGILL, syscall.SIGTRAP,
		syscall.SIGSYS, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGALRM, syscall.SIGVTALRM, syscall.SIGXCPU, syscall.SIGXFSZ,
		syscall.SIGIO, syscall.SIGPWR, syscall.SIGSTKFLT)
	return func() { signal.Stop(caught) }
}

// resetReserved gives the signals that C libraries keep for themselves their
// default effect. Go's runtime never touches them, and some parents (make is
// one) start their children with them ignored.
func resetReserved() {
	var byDefault [5]uint64 // a struct sigaction of the kernel's, all zero
	for signal := uintptr(32); signal <= 34; signal++ {
		// It cannot fail: the signals exist and the struct is readable.
		_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGACTION, signal, uintptr(unsafe.Pointer(&byDefault)), 0, 8, 0, 0)
	}
}
