package execserver_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/hearth-build/hearth/execserver"
)

func TestReadyWaitsForTheSocket(t *testing.T) {
	socket := filepath.Join(publicDir(t), "socket")
	client, err := execserver.Dial(socket)
	if err != nil {
		t.Fatal(err)
	}
	defer closeAll(t, client)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := client.Ready(ctx); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), socket) {
		t.Errorf("without a server: got %v", err)
	}
	// A file that an earlier server left.
	stale, err := execserver.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	closeAll(t, stale)
	ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := client.Ready(ctx); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), socket) {
		t.Errorf("with a socket that nobody listens on: got %v", err)
	}
	if _, err := client.Run(t.Context(), shell("exit 0"), io.Discard, io.Discard); err == nil {
		t.Error("a command ran without a server")
	}
	ready := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		ready <- client.Ready(ctx)
	}()
	startServer(t, options{socket: socket})
	if err := <-ready; err != nil {
		t.Errorf("with a server: got %v", err)
	}
	if result, err := client.Run(t.Context(), shell("exit 5"), io.Discard, io.Discard); err != nil || result.ExitCode != 5 {
		t.Errorf("got %+v, %v", result, err)
	}
}

func closeAll(t *testing.T, closers ...io.Closer) {
	t.Helper()
	for _, c := range closers {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestSocketIsPrivate(t *testing.T) {
	s := startServer(t, options{})
	info, err := os.Lstat(s.socket)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != os.ModeSocket|0o600 {
		t.Errorf("the socket has mode %v", info.Mode())
	}
	// Whoever is inside gets no answer, not even root.
	s.ok(t, execserver.Command{Args: []string{built(t).helper, "connect", s.socket}, Dir: "/"})
	eventually(t, "the server's log says so", func() bool { return strings.Contains(s.log.String(), "inside the container") })
	cmd := execserver.Command{Args: []string{built(t).helper, "connect", s.socket}, Dir: "/", UID: nobody, GID: nobody}
	if got := s.run(t, cmd); !strings.Contains(got.stderr, "permission denied") {
		t.Errorf("got %+v", got)
	}
}

// What speaks no protocol is sent away, and what says nothing does not keep the server.
func TestStrangeConnections(t *testing.T) {
	s := startServer(t, options{})
	dial := func() net.Conn {
		conn, err := net.Dial("unix", s.socket)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { closeAll(t, conn) })
		return conn
	}
	for what, send := range map[string]string{
		"text":                   "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"a frame that is huge":   "\x00\xff\xff\xff",
		"a frame that is broken": "\x00\x00\x00\x03abc",
	} {
		conn := dial()
		if _, err := io.WriteString(conn, send); err != nil {
			t.Fatal(err)
		}
		if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: the connection stays open", what)
		}
	}
	eventually(t, "the server's log tells of the huge one", func() bool {
		return strings.Contains(s.log.String(), "a message of 16777215 bytes, and 8388608 are allowed")
	})
	s.ok(t, shell("exit 0"))
	dial()
	half := dial()
	if _, err := half.Write([]byte{0, 0}); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	<-s.exited
	t.Logf("the server ended within %v", time.Since(start))
}

// Paths of runners are longer than socket addresses.
func TestLongSocketPath(t *testing.T) {
	s := startServer(t, options{})
	dir := filepath.Join(publicDir(t), strings.Repeat("long/", 40))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	long := filepath.Join(dir, "socket")
	if err := os.Link(s.socket, long); err != nil {
		t.Fatal(err)
	}
	client, err := execserver.Dial(long)
	if err != nil {
		t.Fatal(err)
	}
	defer closeAll(t, client)
	if err := client.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	if result, err := client.Run(t.Context(), shell("exit 5"), io.Discard, io.Discard); err != nil || result.ExitCode != 5 {
		t.Errorf("got %+v, %v", result, err)
	}
}

func TestRefusesToServeAsAnotherProcess(t *testing.T) {
	lis, err := execserver.Listen(filepath.Join(publicDir(t), "socket"))
	if err != nil {
		t.Fatal(err)
	}
	if err := execserver.Serve(t.Context(), lis, execserver.Config{}); err == nil || !strings.Contains(err.Error(), "PID 1") {
		t.Errorf("got %v", err)
	}
	if _, err := lis.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the listener is open: %v", err)
	}
	for want, args := range map[string][]string{
		"PID 1":      {"--socket", filepath.Join(publicDir(t), "socket")},
		"--socket":   {},
		"unexpected": {"--socket", "x", "sh"},
	} {
		out, err := exec.Command(built(t).server, args...).CombinedOutput()
		if err == nil || !bytes.Contains(out, []byte(want)) {
			t.Errorf("%q: %v, %s", args, err, out)
		}
	}
	out, err := exec.Command(built(t).server, "--version").CombinedOutput()
	if err != nil || !bytes.HasPrefix(out, []byte("hearth-execserver ")) {
		t.Errorf("--version: %v, %q", err, out)
	}
}

func TestCheckProgram(t *testing.T) {
	if err := execserver.CheckProgram(t.Context(), built(t).server); err != nil {
		t.Error(err)
	}
	for program, want := range map[string]string{
		"/bin/echo":  `/bin/echo is not the exec server: its --version prints "echo`,
		"/bin/false": "ask the exec server what it is: /bin/false --version: exit status 1",
		"/no/such":   "no such file",
	} {
		if err := execserver.CheckProgram(t.Context(), program); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", program, err, want)
		}
	}
}

// A command that is root must not get at the server's memory.
func TestServerCannotBeTraced(t *testing.T) {
	s := startServer(t, options{wrap: []string{built(t).helper, "drop-capabilities"}})
	for _, file := range []string{"exe", "fd/0", "root", "ns/pid"} {
		if got := s.run(t, shell("readlink /proc/1/$1 && echo got it", file)); got.stdout != "" {
			t.Errorf("%s: got %q", file, got.stdout)
		}
	}
	s.ok(t, shell("readlink /proc/$$/exe >/dev/null"))
}

// The server outlives broken pipes and signals of whoever started it.
func TestServerSurvives(t *testing.T) {
	s := startServer(t, options{})
	for _, script := range []string{"kill -HUP 1", "kill -PIPE 1", "kill -TSTP 1", "kill -USR1 1", "kill -STOP 1", "kill -CHLD 1"} {
		s.ok(t, shell(script))
	}
	s.ok(t, shell("exit 0"))
}

// A slow client stops the command instead of filling the server's memory.
func TestSlowReaderOfMuchOutput(t *testing.T) {
	s := startServer(t, options{})
	before := s.status(t, "VmRSS")
	const size = 100 << 20
	total, peak := 0, 0
	stdout := writerFunc(func(p []byte) (int, error) {
		if total == 0 {
			awaitStandstill(t, s)
			peak = s.status(t, "VmRSS")
		}
		if bytes.Count(p, []byte{0}) != len(p) {
			return 0, errors.New("output is damaged")
		}
		total += len(p)
		return len(p), nil
	})
	result, err := s.Run(t.Context(), shell("exec head -c $1 /dev/zero", fmt.Sprint(size)), stdout, io.Discard)
	if err != nil || result.ExitCode != 0 || total != size {
		t.Errorf("got %+v, %v, %d bytes", result, err, total)
	}
	limit := 8 << 10
	if raceBuild {
		limit *= 10
	}
	if grown := peak - before; grown > limit {
		t.Errorf("the server grew by %d KiB to %d KiB while nobody read", grown, peak)
	}
}

// awaitStandstill returns when the command has written nothing for a while.
func awaitStandstill(t *testing.T, s *server) {
	t.Helper()
	var last string
	same := 0
	eventually(t, "the command waits for the client", func() bool {
		pids := s.children(t)
		if len(pids) != 1 {
			return false
		}
		now, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", pids[0]))
		if err != nil {
			t.Fatal(err)
		}
		if string(now) != last {
			last, same = string(now), 0
			return false
		}
		same++
		return same == 20
	})
}

// REAPI F63: nothing leaks from one command to the next.
func TestThousandRunsLeaveNothing(t *testing.T) {
	s := startServer(t, options{scratch: []string{filepath.Join(publicDir(t), "scratch")}})
	cmds := []execserver.Command{
		{Args: []string{busybox, "true"}, Dir: "/", UID: nobody, GID: nobody},
		shell("echo out; echo err >&2; sleep 1000 &"),
		{Args: []string{"/absent"}, Dir: "/"},
	}
	round := func(n int) {
		for i := range n {
			_, err := s.try(t, cmds[i%len(cmds)])
			var refused *execserver.StartError
			if err != nil && !errors.As(err, &refused) {
				t.Fatal(err)
			}
		}
	}
	round(200)
	runtime.GC()
	files, memory, routines := s.descriptors(t), s.status(t, "VmRSS"), runtime.NumGoroutine()
	round(1000)
	// One may be that of a scratch directory, which is emptied after the answer.
	eventually(t, fmt.Sprintf("the server has no more than %d open files", files), func() bool { return s.descriptors(t) <= files })
	if now := s.status(t, "VmRSS"); now > memory+memory/4 {
		t.Errorf("%d KiB of memory, before %d", now, memory)
	}
	if now := s.status(t, "Threads"); now > 16 {
		t.Errorf("%d threads", now)
	}
	if left := s.children(t); len(left) != 0 {
		t.Errorf("processes %v are left", left)
	}
	eventually(t, "the client's goroutines are gone", func() bool { return runtime.NumGoroutine() <= routines })
}

func TestClientLeavesNoGoroutine(t *testing.T) {
	s := startServer(t, options{})
	s.ok(t, shell("exit 0"))
	before := runtime.NumGoroutine()
	for range 20 {
		ctx, cancel := context.WithCancel(t.Context())
		stdout := writerFunc(func(p []byte) (int, error) { cancel(); return len(p), nil })
		if _, err := s.Run(ctx, shell("yes"), stdout, io.Discard); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		other, err := execserver.Dial(s.socket)
		if err != nil {
			t.Fatal(err)
		}
		if err := other.Ready(t.Context()); err != nil {
			t.Error(err)
		}
		closeAll(t, other)
	}
	eventually(t, "all goroutines are gone", func() bool { return runtime.NumGoroutine() <= before })
}
