package execserver

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

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

// catchSignals makes these signals have no effect here and their default effect
// in commands. A signal that is ignored when a process is started stays ignored
// in all its descendants unless something catches it, and the Go runtime leaves
// these as they are. A caught SIGPIPE also keeps a broken stderr from ending the
// server.
func catchSignals() (stop func()) {
	caught := make(chan os.Signal, 1) // never read; signals beyond the first are dropped
	signal.Notify(caught, syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM, syscall.SIGPIPE,
		syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU, syscall.SIGCONT)
	return func() { signal.Stop(caught) }
}
