package execserver_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/hearth-build/hearth/execserver"
)

func TestHowCommandsEnd(t *testing.T) {
	s := startServer(t, options{})
	for script, want := range map[string]execserver.Result{
		"exit 0":            {},
		"exit 1":            {ExitCode: 1},
		"exit 255":          {ExitCode: 255},
		"kill -KILL $$":     {Signal: syscall.SIGKILL},
		"kill -SEGV $$":     {Signal: syscall.SIGSEGV},
		"kill -TERM $$":     {Signal: syscall.SIGTERM},
		"kill -HUP $$":      {Signal: syscall.SIGHUP},
		"kill -PIPE $$":     {Signal: syscall.SIGPIPE},
		"kill -KILL 1":      {}, // no effect on the server, which is PID 1
		"exec >&- 2>&- <&-": {},
	} {
		got := s.run(t, shell(script))
		if got.ExitCode != want.ExitCode || got.Signal != want.Signal || got.TimedOut || got.Killed != 0 || got.Duration <= 0 {
			t.Errorf("%s: got %+v, want %+v", script, got.Result, want)
		}
	}
}

// REAPI F63
func TestOutputIsExact(t *testing.T) {
	s := startServer(t, options{})
	if got := s.run(t, shell(`printf 'out\0\377\r\n\n'; printf 'err\200' >&2; exit 3`)); got.stdout != "out\x00\xff\r\n\n" || got.stderr != "err\x80" {
		t.Errorf("got %q and %q", got.stdout, got.stderr)
	}
	if got := s.run(t, shell("")); got.stdout != "" || got.stderr != "" {
		t.Errorf("a silent command printed %q and %q", got.stdout, got.stderr)
	}
	got := s.run(t, shell(`i=0; while [ $i -lt 20000 ]; do echo "out $i"; echo "err $i" >&2; i=$((i+1)); done`))
	for name, text := range map[string]string{"out": got.stdout, "err": got.stderr} {
		n := 0
		for line := range strings.Lines(text) {
			if want := name + " " + strconv.Itoa(n) + "\n"; line != want {
				t.Fatalf("std%s: line %d is %q", name, n, line)
			}
			n++
		}
		if n != 20000 {
			t.Errorf("std%s: %d lines", name, n)
		}
	}
}

func TestOutputComesWhileTheCommandRuns(t *testing.T) {
	s := startServer(t, options{})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	fifo := publicDir(t) + "/go-on"
	if err := syscall.Mkfifo(fifo, 0o666); err != nil {
		t.Fatal(err)
	}
	released := false
	stdout := writerFunc(func(p []byte) (int, error) {
		if !released { // the command waits for it
			released = true
			writeFile(t, fifo, "x", 0o666)
		}
		return len(p), nil
	})
	result, err := s.Run(ctx, shell("echo ready; read x < $1", fifo), stdout, io.Discard)
	if err != nil || result.ExitCode != 1 || !released { // read reports the missing newline
		t.Errorf("got %+v, %v, released %v", result, err, released)
	}
}

// REAPI G19, G20, G21, G33
func TestCommandSeesNothingOfTheServer(t *testing.T) {
	p := built(t)
	s := startServer(t, options{
		env:  []string{"GODEBUG=http2debug=2", "GRPC_GO_LOG_SEVERITY_LEVEL=info", "GOMAXPROCS=junk"},
		wrap: []string{p.helper, "leak-descriptors", p.helper, "block-signals"},
		// Signals that are ignored stay so across exec.
		shell: `trap "" HUP INT TERM PIPE TSTP TTIN TTOU CONT USR1 CHLD; ulimit -c 7; exec 9</etc/passwd`,
	})
	as := func(uid uint32, args ...string) execserver.Command {
		return execserver.Command{Args: append([]string{busybox}, args...), Dir: "/usr", UID: uid, GID: uid}
	}
	if got := s.ok(t, as(0, "env")); got != "" {
		t.Errorf("environment %q, want none", got)
	}
	cmd := as(0, "env")
	cmd.Env = []string{"A=1", "B=x=y", "A=2", "EMPTY="}
	if got := s.ok(t, cmd); got != "A=2\nB=x=y\nEMPTY=\n" && got != "A=1\nB=x=y\nA=2\nEMPTY=\n" && got != "B=x=y\nA=2\nEMPTY=\n" {
		t.Errorf("environment %q", got)
	}
	if got := s.ok(t, as(0, "cat", "/proc/self/environ")); got != "" {
		t.Errorf("environment %q", got)
	}
	cmd = as(0, "cat", "/proc/self/cmdline", "--", "", "a b")
	cmd.Args[0] = "/bin/../bin/busybox"
	if got := s.run(t, cmd).stdout; got != "/bin/../bin/busybox\x00cat\x00/proc/self/cmdline\x00--\x00\x00a b\x00" {
		t.Errorf("arguments %q", got)
	}
	if got := s.ok(t, as(nobody, "pwd")); got != "/usr\n" {
		t.Errorf("working directory %q", got)
	}
	// ls itself has the directory open as 3.
	if got := s.ok(t, as(0, "ls", "/proc/self/fd")); got != "0\n1\n2\n3\n" {
		t.Errorf("descriptors %q", got)
	}
	if got := s.ok(t, as(0, "readlink", "/proc/self/fd/0")); got != "/dev/null\n" {
		t.Errorf("stdin is %q", got)
	}
	if got := s.ok(t, as(0, "cat")); got != "" {
		t.Errorf("read %q from stdin", got)
	}
	for _, uid := range []uint32{0, nobody} {
		status := statusFields(s.ok(t, as(uid, "cat", "/proc/self/status")))
		id := strings.Repeat(strconv.Itoa(int(uid))+" ", 4)
		for name, want := range map[string]string{
			"Uid": id, "Gid": id, "Groups": "", "Umask": "0022 ",
			"SigBlk": "0000000000000000 ", "SigCgt": "0000000000000000 ",
		} {
			if status[name] != want {
				t.Errorf("user %d: %s is %q, want %q", uid, name, status[name], want)
			}
		}
		// SIGUSR1 and SIGCHLD are caught by the Go runtime anyway.
		if status["SigIgn"] != "0000000000000000 " {
			t.Errorf("user %d: ignored signals %s", uid, status["SigIgn"])
		}
	}
	if got := s.ok(t, as(0, "sh", "-c", `cut -d" " -f5-7 /proc/self/stat; ulimit -c; cat /proc/self/oom_score_adj`)); !strings.Contains(got, " 0\n7\n") || strings.HasPrefix(got, "0 ") {
		t.Errorf("group, session, terminal; core limit; OOM score: %q", got)
	}
	if got, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", s.pid)); err != nil || len(got) != 0 {
		t.Errorf("the server's environment is %q, %v", got, err)
	}
	if got := s.log.String(); got != "" {
		t.Errorf("the image's environment made the server say %q", got)
	}
}

// statusFields reads /proc/self/status, with a space after each value.
func statusFields(text string) map[string]string {
	fields := map[string]string{}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(line, ":")
		for field := range strings.FieldsSeq(value) {
			fields[name] += field + " "
		}
		if _, ok := fields[name]; !ok {
			fields[name] = ""
		}
	}
	return fields
}

func TestSessionOfItsOwn(t *testing.T) {
	s := startServer(t, options{})
	got := strings.Fields(s.ok(t, shell(`echo $$; cut -d" " -f5,6,7 /proc/$$/stat`)))
	if len(got) != 4 || got[1] != got[0] || got[2] != got[0] || got[3] != "0" {
		t.Errorf("process, group, session, terminal: %v", got)
	}
}

func TestUsageCountsDescendants(t *testing.T) {
	s := startServer(t, options{})
	idle := s.run(t, shell("")).Usage
	if idle.MaxRSS <= 0 || idle.MinorFaults <= 0 {
		t.Errorf("an idle command used %+v", idle)
	}
	const spin = `i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done`
	for name, script := range map[string]string{
		"child":  "(" + spin + "); exit",
		"orphan": "mkfifo $1; (" + spin + "; echo > $1) & read x < $1",
	} {
		got := s.run(t, shell(script, publicDir(t)+"/fifo")).Usage
		if got.UserTime+got.SystemTime <= 2*(idle.UserTime+idle.SystemTime) {
			t.Errorf("%s: used %v and %v of CPU time, idle %v and %v", name, got.UserTime, got.SystemTime, idle.UserTime, idle.SystemTime)
		}
	}
	got := s.run(t, shell("awk 'BEGIN { s = sprintf(\"%64000000s\", \"x\"); print length(s) }'"))
	if got.Usage.MaxRSS < 64000000 || got.Usage.MaxRSS > 1<<30 {
		t.Errorf("64 MB of memory were reported as %d bytes (%q)", got.Usage.MaxRSS, got.stdout)
	}
}

func TestOneCommandAtATime(t *testing.T) {
	s := startServer(t, options{})
	lock := publicDir(t) + "/lock"
	var calls sync.WaitGroup
	for range 8 {
		calls.Go(func() {
			for range 10 {
				if got, err := s.try(t, shell("mkdir $1 && rmdir $1", lock)); err != nil || got.ExitCode != 0 {
					t.Errorf("got %+v, %v", got, err)
				}
			}
		})
	}
	calls.Wait()
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
