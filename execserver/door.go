package execserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hearth-build/hearth/execserver/execpb"
)

// greeting is how long a new connection may be silent.
const greeting = 10 * time.Second

// door parts the connections of a socket. One of gRPC begins with the P of HTTP/2's
// preface, and one of Run with the zero that the length of every frame begins with.
type door struct {
	net.Listener
	serve func(ctx context.Context, conn net.Conn) // one of Run
	log   *log.Logger

	calls    chan net.Conn // those of gRPC
	ctx      context.Context
	close    context.CancelCauseFunc
	routines sync.WaitGroup
}

var _ net.Listener = (*door)(nil)

func newDoor(lis net.Listener, log *log.Logger, serve func(context.Context, net.Conn)) *door {
	d := &door{Listener: lis, serve: serve, log: log, calls: make(chan net.Conn)}
	d.ctx, d.close = context.WithCancelCause(context.Background())
	d.routines.Go(d.open)
	return d
}

// open takes connections until the listener is closed.
func (d *door) open() {
	for {
		conn, err := d.Listener.Accept()
		if err != nil {
			d.close(err)
			return
		}
		d.routines.Go(func() { d.admit(conn) })
	}
}

func (d *door) admit(conn net.Conn) {
	if err := conn.SetReadDeadline(time.Now().Add(greeting)); err != nil {
		d.log.Printf("a connection that ended at once: %v", closing(conn, err))
		return
	}
	// In this order: at the end of the server peek must not get its time back.
	unwatch := context.AfterFunc(d.ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	first, err := peek(conn)
	unwatch()
	if err != nil {
		d.log.Printf("a connection without a request: %v", closing(conn, err))
		return
	}
	if first == 0 {
		d.serve(d.ctx, conn)
		return
	}
	select {
	case d.calls <- conn: // which is gRPC's from here on
	case <-d.ctx.Done():
		d.log.Printf("a call at the end: %v", closing(conn, context.Cause(d.ctx)))
	}
}

// Accept implements net.Listener, for gRPC.
func (d *door) Accept() (net.Conn, error) {
	select {
	case conn := <-d.calls:
		return conn, nil
	case <-d.ctx.Done():
		return nil, context.Cause(d.ctx)
	}
}

// shut breaks off all runs, and returns when they are over. The listener is closed.
func (d *door) shut() {
	d.close(net.ErrClosed)
	d.routines.Wait()
}

// peek returns the first byte that a peer sends, and leaves it in the socket. After it
// there is no deadline.
func peek(conn net.Conn) (byte, error) {
	raw, err := conn.(syscall.Conn).SyscallConn() // it is a socket: checkPeer has seen it
	if err != nil {
		return 0, err
	}
	var first [1]byte
	var n int
	var peekErr error
	err = raw.Read(func(fd uintptr) bool {
		n, _, peekErr = unix.Recvfrom(int(fd), first[:], unix.MSG_PEEK)
		return !errors.Is(peekErr, unix.EAGAIN)
	})
	if err = errors.Join(err, peekErr, conn.SetReadDeadline(time.Time{})); err != nil {
		return 0, err
	}
	if n == 0 {
		return 0, errors.New("it was closed at once")
	}
	return first[0], nil
}

// runConn is a connection of Run, as the server has it.
type runConn struct {
	frames
	ctx context.Context
	// gone ends ctx, since the client does not read any more.
	gone context.CancelFunc
}

var _ eventStream = (*runConn)(nil)

// Send implements eventStream.
func (c *runConn) Send(event *execpb.RunEvent) error {
	if c.ctx.Err() != nil { // how a command ended that was killed for this is no result
		return c.ctx.Err()
	}
	if err := c.write(event); err != nil {
		c.gone()
		return fmt.Errorf("tell the client: %w", err)
	}
	return nil
}

// serveRuns runs what a client asks for, one command after the other, until that says
// no more, or ctx ends.
func (s *server) serveRuns(ctx context.Context, conn net.Conn) {
	ctx, gone := context.WithCancel(ctx)
	requests := make(chan *execpb.RunRequest)
	var routines sync.WaitGroup
	routines.Go(func() {
		defer close(requests)
		defer gone() // also of the run that is under way
		s.readRequests(ctx, conn, requests)
	})
	// Whoever is blocked in a read or write comes back. At the regular end there is nobody,
	// and no connection either.
	context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	answers := &runConn{frames: frames{conn: conn}, ctx: ctx, gone: gone}
	for req := range requests {
		if err := s.serveRun(ctx, req, answers); err != nil {
			gone()
		}
	}
	routines.Wait()
	if err := conn.Close(); err != nil {
		s.Log.Printf("close a connection: %v", err)
	}
}

// readRequests returns when there will be no other one.
func (s *server) readRequests(ctx context.Context, conn net.Conn, requests chan<- *execpb.RunRequest) {
	reader := newFrameReader(conn, maxRequest)
	for {
		req := &execpb.RunRequest{}
		if err := reader.read(req); err != nil {
			if !errors.Is(err, io.EOF) && ctx.Err() == nil {
				s.Log.Printf("read a request: %v", err)
			}
			return
		}
		select {
		case requests <- req:
		case <-ctx.Done():
			return
		}
	}
}
