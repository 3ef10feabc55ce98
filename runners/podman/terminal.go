package podman

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/hearth-build/hearth/runners"
)

// Terminal is a pseudo-terminal among those of a container.
type Terminal struct {
	// Master is the side of whoever plays the person.
	Master *os.File
	// Path is the other side, as the container knows it; Peer keeps it open, so
	// that it is never without a reader.
	Path string
	Peer *os.File
}

// Close closes what is still open.
func (t *Terminal) Close() error {
	err := t.Peer.Close()
	if errors.Is(err, os.ErrClosed) {
		err = nil
	}
	return errors.Join(err, t.Master.Close())
}

// Terminal makes a pseudo-terminal in a runner of this Backend that has run
// nothing yet: its user uid can open it and make it its controlling terminal.
// The caller closes it.
func (b *Backend) Terminal(ctx context.Context, runner runners.Instance, uid int) (*Terminal, error) {
	in, ok := runner.(*instance)
	if !ok {
		return nil, errors.New("only a runner with an exec server has terminals")
	}
	t, err := openTerminal(in.init.pid, in.root+uid)
	if err != nil {
		return nil, fmt.Errorf("make a terminal in container %s: %w", in.spec.ID, err)
	}
	// Only now it is certain whose directory that was.
	if ended, err := in.init.ended(ctx, 0); ended || err != nil {
		return nil, errors.Join(in.died(ctx), err, t.Close())
	}
	return t, nil
}

// openTerminal opens a new pseudo-terminal of the mount namespace of a process.
func openTerminal(pid, uid int) (*Terminal, error) {
	dir := fmt.Sprintf("/proc/%d/root/dev/pts/", pid)
	// Not to wait for what never comes, Close ends a Read or Write.
	fd, err := unix.Open(dir+"ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	master := os.NewFile(uintptr(fd), "terminal")
	number, err := unix.IoctlGetUint32(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		return nil, errors.Join(err, master.Close())
	}
	name := strconv.FormatUint(uint64(number), 10)
	peer, err := os.OpenFile(dir+name, unix.O_RDWR|unix.O_NOCTTY, 0)
	if err == nil {
		if err = peer.Chown(uid, -1); err != nil {
			err = errors.Join(err, peer.Close())
		}
	}
	if err != nil {
		return nil, errors.Join(err, master.Close())
	}
	return &Terminal{Master: master, Path: "/dev/pts/" + name, Peer: peer}, nil
}
