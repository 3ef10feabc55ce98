package execserver_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hearth-build/hearth/execserver"
)

// busybox is the static program that most commands of these tests are.
const busybox = "/bin/busybox"

// nobody is a user whose number of processes no other test depends on.
const nobody = 54321

// patience of tests with things that should take milliseconds.
const patience = 60 * time.Second

// programs are built once per test run.
type programs struct {
	dir            string
	server, helper string
	static         string // server as it ships, whatever this test is built with
}

var build = sync.OnceValues(func() (programs, error) {
	dir, err := os.MkdirTemp("", "execserver-test-")
	if err != nil {
		return programs{}, err
	}
	p := programs{
		dir: dir, server: filepath.Join(dir, "hearth-execserver"), helper: filepath.Join(dir, "helper"),
		static: filepath.Join(dir, "static"),
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return p, err
	}
	for target, source := range map[string]string{
		p.server: "../cmd/execserver", p.static: "../cmd/execserver", p.helper: "./testdata/helper",
	} {
		args := []string{"build", "-tags=grpcnotrace", "-o", target}
		cgo := "CGO_ENABLED=0"
		if raceBuild && target == p.server {
			args, cgo = append(args, "-race"), "CGO_ENABLED=1"
		}
		cmd := exec.Command("go", append(args, source)...)
		cmd.Env = append(os.Environ(), cgo)
		if out, err := cmd.CombinedOutput(); err != nil {
			return p, fmt.Errorf("go build %s: %w\n%s", source, err, out)
		}
	}
	return p, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if p, err := build(); err == nil {
		if err := os.RemoveAll(p.dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

func built(t testing.TB) programs {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("these tests make PID namespaces: run them as root")
	}
	if _, err := os.Stat(busybox); err != nil {
		t.Fatalf("%v: install the package busybox-static", err)
	}
	p, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// server is the real program, PID 1 of a PID namespace with a /proc of its own.
type server struct {
	*execserver.Client
	socket string
	pid    int // on the host
	exited chan struct{}
	kill   func() error
	stop   func() error // SIGTERM
	log    *lockedBuffer
	state  *os.ProcessState // once exited is closed
}

// options of a server under test.
type options struct {
	socket  string // default: one in a new directory
	program string // default: the server that checks for races if this test does
	scratch []string
	// wrap are a program and its arguments that become the server.
	wrap []string
	env  []string
	// shell runs before the server, in the process that becomes it.
	shell string
	// args are more arguments of the server.
	args []string
	// unshare are namespaces besides those that each server gets.
	unshare uintptr
}

func startServer(t testing.TB, o options) *server {
	t.Helper()
	if o.socket == "" {
		o.socket = filepath.Join(publicDir(t), "socket")
	}
	if o.program == "" {
		o.program = built(t).server
	}
	s := &server{socket: o.socket, exited: make(chan struct{}), log: &lockedBuffer{}}
	args := append(o.wrap, o.program, "--socket", s.socket)
	for _, dir := range o.scratch {
		args = append(args, "--scratch", dir)
	}
	args = append(args, o.args...)
	script := "umask 077; mount -t proc proc /proc || exit 9; " + o.shell + "\n" + `exec "$@"`
	cmd := exec.Command(busybox, append([]string{"sh", "-c", script, "sh"}, args...)...)
	cmd.Env = append([]string{"PATH=/bin:/usr/bin:/sbin", "SERVER_SECRET=leaked"}, o.env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID, Unshareflags: syscall.CLONE_NEWNS | o.unshare}
	cmd.Stdout, cmd.Stderr = s.log, s.log
	if err := cmd.Start(); err != nil {
		t.Fatalf("start the server: %v", err)
	}
	go func() {
		_ = cmd.Wait() // the state says it all
		s.state = cmd.ProcessState
		close(s.exited)
	}()
	s.pid, s.kill = cmd.Process.Pid, cmd.Process.Kill
	s.stop = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	var err error
	if s.Client, err = execserver.Dial(s.socket); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.end(t) })
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := s.Ready(ctx); err != nil {
		t.Fatalf("%v\nserver: %s", err, s.log)
	}
	return s
}

func (s *server) end(t testing.TB) {
	if err := s.Close(); err != nil {
		t.Errorf("close the client: %v", err)
	}
	if err := s.stop(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("stop the server: %v", err)
	}
	select {
	case <-s.exited:
	case <-time.After(patience):
		t.Errorf("server did not stop at SIGTERM: %s", s.log)
		if err := s.kill(); err != nil {
			t.Errorf("kill the server: %v", err)
		}
		<-s.exited
	}
	for _, trouble := range []string{"DATA RACE", "panic:", "fatal error:"} {
		if strings.Contains(s.log.String(), trouble) {
			t.Errorf("server: %s", s.log)
		}
	}
}

// shell is a command of the test's shell.
func shell(script string, args ...string) execserver.Command {
	return execserver.Command{
		Args: append([]string{busybox, "sh", "-c", script, "sh"}, args...),
		Env:  []string{"PATH=/bin:/usr/bin:/sbin:/usr/sbin"},
		Dir:  "/",
	}
}

// outcome of a command that was started.
type outcome struct {
	execserver.Result
	stdout, stderr string
}

func (s *server) try(t testing.TB, cmd execserver.Command) (outcome, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var stdout, stderr bytes.Buffer
	result, err := s.Run(ctx, cmd, &stdout, &stderr)
	return outcome{Result: result, stdout: stdout.String(), stderr: stderr.String()}, err
}

// run fails the test if the command is not started.
func (s *server) run(t testing.TB, cmd execserver.Command) outcome {
	t.Helper()
	got, err := s.try(t, cmd)
	if err != nil {
		t.Fatalf("run %q: %v\nserver: %s", cmd.Args, err, s.log)
	}
	return got
}

// ok fails the test if the command fails, and returns what it printed.
func (s *server) ok(t testing.TB, cmd execserver.Command) string {
	t.Helper()
	got := s.run(t, cmd)
	if got.ExitCode != 0 || got.Signal != 0 || got.TimedOut || got.stderr != "" {
		t.Fatalf("run %q: %+v", cmd.Args, got)
	}
	return got.stdout
}

// publicDir is a directory that every user can reach, unlike T.TempDir's.
func publicDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "execserver-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	return dir
}

func writeFile(t testing.TB, path, content string, mode os.FileMode) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

// eventually polls until a condition holds.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// children lists the processes whose parent is the server.
func (s *server) children(t testing.TB) []int {
	t.Helper()
	if _, err := os.Stat(fmt.Sprintf("/proc/%d/task", s.pid)); err != nil {
		t.Fatalf("no threads of server %d: %v", s.pid, err)
	}
	return childrenOf(t, s.pid)
}

// childrenOf lists the children of a process, of which there are none once it has ended.
func childrenOf(t testing.TB, pid int) (pids []int) {
	t.Helper()
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, list := range lists {
		content, err := os.ReadFile(list)
		if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, syscall.ESRCH) {
			t.Fatal(err)
		}
		for field := range strings.FieldsSeq(string(content)) {
			pid, err := strconv.Atoi(field)
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, pid)
		}
	}
	return pids
}

// status reads a number from the server's /proc status, such as VmRSS in KiB.
func (s *server) status(t testing.TB, name string) int {
	t.Helper()
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(content)) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			n, err := strconv.Atoi(strings.Fields(value)[0])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("no %s in the status of process %d", name, s.pid)
	return 0
}

// descriptors counts the server's open files.
func (s *server) descriptors(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// lockedBuffer is what a process printed, safe to read while it prints.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
