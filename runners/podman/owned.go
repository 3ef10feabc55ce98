package podman

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"time"

	"github.com/hearth-build/hearth/runners"
)

const (
	serviceStartTimeout = 30 * time.Second
	serviceStopTimeout  = 5 * time.Second
	// maxStarts in a row may fail before callers are told. A service that dies
	// earlier than restartDelay is started again only after that delay.
	maxStarts    = 3
	restartDelay = time.Second
)

// ownedService is a podman service that the Backend started: started again when
// it dies, and ended with hearth, however that ends.
type ownedService struct {
	process serviceProcess
	pid     pidFile
	log     *slog.Logger

	quit     chan struct{} // closed by close
	routines sync.WaitGroup

	mu      sync.Mutex // guards all below
	conn    *connection
	err     error         // of the last start, once maxStarts failed
	changed chan struct{} // closed and made anew when conn or err changes
}

var _ service = (*ownedService)(nil)

// newOwnedService starts to run a service.
func newOwnedService(process serviceProcess, pid pidFile, log *slog.Logger) *ownedService {
	s := &ownedService{
		process: process, pid: pid, log: log,
		quit: make(chan struct{}), changed: make(chan struct{}),
	}
	s.routines.Go(s.supervise)
	return s
}

// connect implements service: it waits while the service is being started.
func (s *ownedService) connect(ctx context.Context) (*connection, error) {
	for {
		s.mu.Lock()
		conn, err, changed := s.conn, s.err, s.changed
		s.mu.Unlock()
		if conn != nil || err != nil {
			return conn, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for the podman service to start: %w", context.Cause(ctx))
		}
	}
}

// set changes what connect returns; neither a connection nor an error: it waits.
func (s *ownedService) set(conn *connection, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conn, s.err = conn, err
	close(s.changed)
	s.changed = make(chan struct{})
}

// close implements service.
func (s *ownedService) close(context.Context) error {
	close(s.quit)
	s.routines.Wait()
	return s.process.socket.close()
}

// supervise runs the service again and again. The kernel's promise to signal a
// child when its parent dies is about the thread that forked it, so that this
// goroutine keeps its thread.
func (s *ownedService) supervise() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for failures := 0; ; {
		begin := time.Now()
		served, err := s.run()
		select {
		case <-s.quit:
			if err != nil {
				s.log.Error("the podman service did not end as it should", "error", err)
			}
			s.set(nil, runners.ErrClosed)
			return
		default:
		}
		failures++
		if served {
			failures = 0
		}
		s.log.Error("the podman service ended; starting it again", "failures", failures, "error", err)
		if failures < maxStarts {
			s.set(nil, nil)
		} else {
			s.set(nil, fmt.Errorf("%w: the podman service does not start; `hearth doctor` tells more: %w", runners.ErrBackend, err))
		}
		select {
		case <-s.quit:
		case <-time.After(restartDelay - time.Since(begin)):
		}
	}
}

// run runs the service to its end, or until close, and tells whether it answered.
func (s *ownedService) run() (served bool, err error) {
	child, err := s.process.start(s.log)
	if err != nil {
		return false, err
	}
	if err = s.pid.write(child.pid()); err == nil {
		served, err = s.serve(child)
	}
	if stopErr := child.stop(); stopErr != nil {
		err = errors.Join(err, stopErr)
	}
	return served, errors.Join(err, s.pid.remove())
}

// serve connects to the service and waits for its end, or for close; the latter
// is no error.
func (s *ownedService) serve(child *serviceChild) (served bool, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), serviceStartTimeout)
	defer cancel()
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	for !listens(ctx, s.process.socket.path()) {
		select {
		case <-child.exited:
			return false, child.end()
		case <-s.quit:
			return false, nil
		case <-ctx.Done():
			return false, fmt.Errorf("it did not listen within %v; its last words: %s", serviceStartTimeout, child.last.get())
		case <-ticker.C:
		}
	}
	conn, err := connect(ctx, s.process.socket.path())
	if err != nil {
		return false, err
	}
	s.set(conn, nil)
	select {
	case <-child.exited:
		return true, child.end()
	case <-s.quit:
		return true, nil
	}
}
