package main

import (
	"errors"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/hearth-build/hearth/runners/podman"
)

// converse lets the person at this process's terminal use another one, while do
// runs what has that one's other side.
func converse(t *podman.Terminal, do func() error) (err error) {
	// Opened anew: what is read from can be told to stop, which stdin cannot.
	keyboard, err := os.OpenFile("/proc/self/fd/0", os.O_RDONLY|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, keyboard.Close()) }()
	before, err := term.MakeRaw(int(os.Stdin.Fd()))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, term.Restore(int(os.Stdin.Fd()), before)) }()
	sized := make(chan os.Signal, 1)
	signal.Notify(sized, syscall.SIGWINCH)
	copySize(t.Master)

	var typing, showing sync.WaitGroup
	showing.Go(func() { _, _ = io.Copy(os.Stdout, t.Master) }) // ends when the other side is closed
	typing.Go(func() { _, _ = io.Copy(t.Master, keyboard) })   // ends with the deadline below
	typing.Go(func() {
		for range sized {
			copySize(t.Master)
		}
	})
	err = do()
	signal.Stop(sized)
	close(sized)
	err = errors.Join(err, t.Peer.Close())
	showing.Wait()
	err = errors.Join(err, keyboard.SetReadDeadline(time.Now()), t.Master.Close())
	typing.Wait()
	return err
}

// copySize gives a terminal the size of this process's own, if that has one.
func copySize(to *os.File) {
	size, err := unix.IoctlGetWinsize(int(os.Stdin.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return
	}
	conn, err := to.SyscallConn()
	if err == nil {
		_ = conn.Control(func(fd uintptr) { _ = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, size) }) // it keeps its size
	}
}
