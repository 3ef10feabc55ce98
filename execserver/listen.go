package execserver

import (
	"fmt"
	"log"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Listen makes the socket at path, with mode 0600, in place of whatever file
// an earlier server left there. The socket accepts connections from the moment
// that path exists: a client needs to wait for nothing else.
func Listen(path string) (net.Listener, error) {
	temp := path + ".new"
	if err := os.Remove(temp); err != nil && !os.IsNotExist(err) {
		return nil, fmt.Errorf("make exec server socket: %w", err)
	}
	umask := syscall.Umask(0o177)
	lis, err := net.ListenUnix("unix", &net.UnixAddr{Name: temp, Net: "unix"})
	syscall.Umask(umask)
	if err != nil {
		return nil, fmt.Errorf("make exec server socket: %w", err)
	}
	lis.SetUnlinkOnClose(false)
	if err := os.Rename(temp, path); err != nil {
		return nil, fmt.Errorf("make exec server socket: %w", closing(lis, err))
	}
	return lis, nil
}

// outsiders accepts only peers outside of the server's PID namespace. A command
// that got at the socket could otherwise run anything as any user.
type outsiders struct {
	net.Listener
	log *log.Logger
}

var _ net.Listener = outsiders{}

// Accept implements net.Listener.
func (o outsiders) Accept() (net.Conn, error) {
	for {
		conn, err := o.Listener.Accept()
		if err != nil {
			return nil, err
		}
		err = checkPeer(conn)
		if err == nil {
			return conn, nil
		}
		o.log.Printf("refused a connection: %v", closing(conn, err))
	}
}

// checkPeer relies on the kernel translating a peer's process id into the PID
// namespace of the process that asks. One that is not in it has no id: 0. The
// credentials are those of the connect call and outlive their process.
func checkPeer(conn net.Conn) error {
	socket, ok := conn.(syscall.Conn)
	if !ok {
		return fmt.Errorf("peer credentials: %T is no socket", conn)
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return fmt.Errorf("peer credentials: %w", err)
	}
	var peer *unix.Ucred
	var optErr error
	if err := raw.Control(func(fd uintptr) {
		peer, optErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return fmt.Errorf("peer credentials: %w", err)
	}
	if optErr != nil {
		return fmt.Errorf("peer credentials: %w", optErr)
	}
	if peer.Pid != 0 {
		return fmt.Errorf("process %d (user %d) is inside the container", peer.Pid, peer.Uid)
	}
	return nil
}
