package execserver_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hearth-build/hearth/execserver"
	"github.com/hearth-build/hearth/execserver/execpb"
)

// deadMount is a file system whose server took a request and never answers, as
// a network file system whose network is gone: whoever asked cannot be killed.
type deadMount struct {
	dir    string
	fuse   int
	stuck  chan struct{} // closed when somebody waits
	served chan error
}

// newDeadMount mounts one until it is released, which the end of a server that
// has a stuck process waits for.
func newDeadMount(t *testing.T) *deadMount {
	t.Helper()
	fuse, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatalf("this test needs FUSE: %v", err)
	}
	m := &deadMount{dir: publicDir(t), fuse: fuse, stuck: make(chan struct{}), served: make(chan error, 1)}
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", fuse)
	if err := unix.Mount("dead", m.dir, "fuse.dead", 0, options); err != nil {
		t.Fatal(errors.Join(err, unix.Close(fuse)))
	}
	go func() { m.served <- m.serve() }()
	return m
}

// release ends the connection, and with it all waiting.
func (m *deadMount) release(t *testing.T) {
	t.Helper()
	if err := errors.Join(unix.Unmount(m.dir, unix.MNT_DETACH), unix.Close(m.fuse), <-m.served); err != nil {
		t.Error(err)
	}
}

// serve answers the request that the kernel begins with, and takes one more.
func (m *deadMount) serve() error {
	const header = 40
	request := make([]byte, 64<<10)
	if n, err := unix.Read(m.fuse, request); err != nil || n < header {
		return fmt.Errorf("read the first request: %d bytes, %w", n, err)
	}
	reply := make([]byte, 16+24) // its header, and a short struct fuse_init_out
	binary.NativeEndian.PutUint32(reply, uint32(len(reply)))
	copy(reply[8:16], request[8:16])             // the request's id
	binary.NativeEndian.PutUint32(reply[16:], 7) // version 7.22
	binary.NativeEndian.PutUint32(reply[20:], 22)
	binary.NativeEndian.PutUint32(reply[36:], 4096) // max_write
	if _, err := unix.Write(m.fuse, reply); err != nil {
		return fmt.Errorf("answer the first request: %w", err)
	}
	if n, err := unix.Read(m.fuse, request); err != nil || n < header {
		return fmt.Errorf("read the second request: %d bytes, %w", n, err)
	}
	close(m.stuck)
	return nil
}

// A process that cannot be killed makes nobody wait for ever, and nothing is
// run beside it.
func TestUnkillable(t *testing.T) {
	for name, c := range map[string]struct {
		script  string
		timeout time.Duration
	}{
		"command":  {"exec cat $1/file", 300 * time.Millisecond},
		"leftover": {"cat $1/file & read x < $2", 0},
	} {
		t.Run(name, func(t *testing.T) {
			m := newDeadMount(t)
			defer m.release(t)
			const limit = 500 * time.Millisecond
			s := startServer(t, options{args: []string{"--kill-patience", limit.String()}})
			goOn := publicDir(t) + "/go-on"
			if err := unix.Mkfifo(goOn, 0o600); err != nil {
				t.Fatal(err)
			}
			wrote := make(chan error, 1)
			go func() {
				<-m.stuck
				if c.timeout > 0 {
					wrote <- nil
					return
				}
				wrote <- os.WriteFile(goOn, []byte("x\n"), 0o600)
			}()
			cmd := shell(c.script, m.dir, goOn)
			cmd.Timeout = c.timeout
			start := time.Now()
			_, err := s.try(t, cmd)
			if !errors.Is(err, execserver.ErrUnsettled) || !strings.Contains(err.Error(), "are left 500ms after they were killed") {
				t.Errorf("got %v", err)
			}
			if took := time.Since(start); took < limit || took > patience/2 {
				t.Errorf("took %v", took)
			}
			if err := <-wrote; err != nil {
				t.Error(err)
			}
			if message := s.notStarted(t, shell("exit 0"), execpb.NotStarted_FAULT); !strings.Contains(message, "could not be ended") {
				t.Errorf("afterwards: %q", message)
			}
			if !strings.Contains(s.log.String(), "are left") {
				t.Errorf("the server's log is %q", s.log)
			}
		})
	}
}

// What is broken off while a process cannot be killed is not settled either.
func TestUnkillableCancelled(t *testing.T) {
	m := newDeadMount(t)
	defer m.release(t)
	s := startServer(t, options{args: []string{"--kill-patience", "300ms"}})
	stdout := writerFunc(func([]byte) (int, error) {
		<-m.stuck
		return 0, io.ErrClosedPipe
	})
	_, err := s.Run(t.Context(), shell("echo; exec cat $1/file", m.dir), stdout, io.Discard)
	if !errors.Is(err, io.ErrClosedPipe) || !errors.Is(err, execserver.ErrUnsettled) {
		t.Errorf("got %v", err)
	}
}
