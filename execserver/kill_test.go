package execserver_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hearth-build/hearth/execserver"
)

// REAPI F34
func TestTimeout(t *testing.T) {
	s := startServer(t, options{})
	const timeout = 500 * time.Millisecond
	for name, c := range map[string]struct {
		script string
		grace  time.Duration
		want   execserver.Result
		stdout string
	}{
		"killed at once":            {script: `trap "echo no" TERM; echo a; while :; do sleep 1; done`, want: execserver.Result{Signal: syscall.SIGKILL}, stdout: "a\n"},
		"ends by SIGTERM":           {script: "echo a; exec sleep 1000", grace: patience, want: execserver.Result{Signal: syscall.SIGTERM}, stdout: "a\n"},
		"cleans up at SIGTERM":      {script: `trap "echo b; exit 7" TERM; echo a; while :; do sleep 1; done`, grace: patience, want: execserver.Result{ExitCode: 7}, stdout: "a\nb\n"},
		"ignores SIGTERM":           {script: `trap "" TERM; echo a; sleep 1000; sleep 1000`, grace: timeout, want: execserver.Result{Signal: syscall.SIGKILL}, stdout: "a\n"},
		"is stopped":                {script: "echo a; kill -STOP $$", grace: patience, want: execserver.Result{Signal: syscall.SIGTERM}, stdout: "a\n"},
		"is stopped, killed":        {script: "echo a; kill -STOP $$", want: execserver.Result{Signal: syscall.SIGKILL}, stdout: "a\n"},
		"children in other session": {script: "setsid sh -c 'echo a; sleep 1000' & wait", want: execserver.Result{Signal: syscall.SIGKILL}, stdout: "a\n"},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := shell(c.script)
			cmd.Timeout, cmd.Grace = timeout, c.grace
			got := s.run(t, cmd)
			if !got.TimedOut || got.ExitCode != c.want.ExitCode || got.Signal != c.want.Signal || got.stdout != c.stdout {
				t.Errorf("got %+v, want %+v, stdout %q", got, c.want, c.stdout)
			}
			if got.Duration < timeout || got.Duration > patience/2 {
				t.Errorf("took %v", got.Duration)
			}
			if got.Usage.MinorFaults == 0 {
				t.Error("no usage")
			}
		})
	}
	cmd := shell("exit 4")
	cmd.Timeout, cmd.Grace = patience, patience
	if got := s.run(t, cmd); got.TimedOut || got.ExitCode != 4 {
		t.Errorf("ended in time: got %+v", got)
	}
}

// A client that does not read stops the output, not the clock.
func TestTimeoutWithABlockedClient(t *testing.T) {
	s := startServer(t, options{})
	cmd := shell("yes")
	cmd.Timeout = 300 * time.Millisecond
	blocked := false
	stdout := writerFunc(func(p []byte) (int, error) {
		if !blocked {
			blocked = true
			eventually(t, "the command runs", func() bool { return len(s.children(t)) > 0 })
			eventually(t, "the command is killed", func() bool { return len(s.children(t)) == 0 })
		}
		return len(p), nil
	})
	result, err := s.Run(t.Context(), cmd, stdout, io.Discard)
	if err != nil || !result.TimedOut || result.Signal != syscall.SIGKILL || !blocked {
		t.Errorf("got %+v, %v, blocked %v", result, err, blocked)
	}
}

// REAPI G34: whatever a command leaves, and however it hides, is gone when the
// result is there, and counted. A process that waits for a child may still reap
// it while both die, which counts as one: the least is of those that nobody waits for.
func TestLeftovers(t *testing.T) {
	p := built(t)
	s := startServer(t, options{})
	ready := filepath.Join(publicDir(t), "ready")
	// until is a script that waits for the file that says that a leftover is there.
	until := "while ! [ -e " + ready + " ]; do sleep 0.01; done; echo done"
	for name, c := range map[string]struct {
		script string
		least  int
	}{
		"background child":             {"sleep 1000 & echo done", 1},
		"daemon that holds stdout":     {"setsid setsid sleep 1000 & echo done", 1},
		"double fork in other session": {"(setsid sh -c '(setsid sh -c \"trap : TERM HUP; : > " + ready + "; sleep 1000 & wait; sleep 1000\" &)' &) ; " + until, 1},
		"stopped":                      {"sh -c 'kill -STOP $$' & while ! grep -q T.*stopped /proc/$!/status; do sleep 0.01; done; echo done", 1},
		"deaf":                         {"sh -c 'trap \"\" TERM HUP INT; : > " + ready + "; while :; do sleep 1; done' & " + until, 1},
		"500 daemons":                  {"i=0; while [ $i -lt 500 ]; do setsid sleep 1000 & i=$((i+1)); done; echo done", 500},
		"closed stdout":                {"echo done; exec >&- 2>&-; sleep 1000 &", 1},
		"PID namespace":                {"unshare -p -f sh -c 'sleep 1000 & : > " + ready + "; sleep 1000' & " + until, 1},
		"PID and user namespace":       {"unshare -U -p -f sh -c 'sleep 1000 & echo > /proc/1/fd/1; sleep 1000' & sleep 0.2; echo done", 1},
		"nested PID namespaces":        {"unshare -p -f unshare -p -f sh -c 'sleep 1000 & : > " + ready + "; sleep 1000' & " + until, 1},
		"traced, and stopped at exit":  {p.helper + " trace " + ready + " " + busybox + " sleep 1000 & " + until, 1},
		"adopted by a subreaper":       {p.helper + " adopt " + ready + " & " + until, 1},
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.Remove(ready); err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
			got := s.run(t, shell(c.script))
			if got.ExitCode != 0 || got.stdout != "done\n" || got.Killed < c.least || got.Duration > patience/2 {
				t.Errorf("got %+v", got)
			}
			if left := s.children(t); len(left) != 0 {
				t.Errorf("processes %v are left", left)
			}
		})
	}
	if got := s.ok(t, shell("echo /proc/[0-9]*")); len(strings.Fields(got)) != 2 {
		t.Errorf("processes %s are left, want the server and the shell", got)
	}
}

// Output of a daemon that never stops neither delays the result nor gets lost
// before the end of the main process.
func TestLeftoverThatKeepsPrinting(t *testing.T) {
	s := startServer(t, options{})
	got := s.run(t, shell("echo first; yes & head -c 300000 /dev/zero >&2"))
	if got.ExitCode != 0 || got.Killed != 1 || !strings.HasPrefix(got.stdout, "first\n") || len(got.stderr) != 300000 {
		t.Errorf("got %+v, %d bytes of stdout, %d of stderr", got.Result, len(got.stdout), len(got.stderr))
	}
}

// A fork bomb cannot outrun its end, neither that of the timeout nor that of its
// main process.
func TestForkBomb(t *testing.T) {
	s := startServer(t, options{})
	// A shell that cannot fork ends, so that a bomb burns out on a fast machine: one is
	// thrown after the other, by a shell that always may, and each leaves something.
	const bomb = "ulimit -S -u 400 || exit 99; bomb() { sleep 1000 & bomb & bomb & wait; }; " +
		"while :; do (ulimit -S -u 200; bomb) 2>/dev/null & wait $!; done"
	cmd := shell(bomb)
	cmd.UID, cmd.GID = nobody+1, nobody+1
	cmd.Timeout = time.Second
	if got := s.run(t, cmd); !got.TimedOut || got.Signal != syscall.SIGKILL || got.Killed < 100 {
		t.Errorf("got %+v", got.Result)
	}
	if left := s.children(t); len(left) != 0 {
		t.Errorf("processes %v are left", left)
	}
	for range 5 {
		cmd := shell("(" + bomb + ") & sleep 0.2; exit 3")
		cmd.UID, cmd.GID = nobody+1, nobody+1
		if got := s.run(t, cmd); got.ExitCode != 3 || got.Killed < 10 {
			t.Errorf("got %+v", got.Result)
		}
		if left := s.children(t); len(left) != 0 {
			t.Errorf("processes %v are left", left)
		}
	}
}

// Orphans do not stay zombies until the end of a long command.
func TestOrphansAreReapedWhileACommandRuns(t *testing.T) {
	s := startServer(t, options{})
	cmd := shell(`i=0; while [ $i -lt 100 ]; do sh -c "true & exec true"; i=$((i+1)); done
		while grep -q "^State:.Z" /proc/[0-9]*/status 2>/dev/null; do sleep 0.1; done; echo none`)
	cmd.Timeout = patience / 2
	if got := s.ok(t, cmd); got != "none\n" {
		t.Errorf("got %q", got)
	}
}

func TestCancel(t *testing.T) {
	s := startServer(t, options{})
	for range 3 {
		ctx, cancel := context.WithCancelCause(t.Context())
		why := errors.New("nobody wants the result")
		stdout := writerFunc(func(p []byte) (int, error) {
			cancel(why)
			return len(p), nil
		})
		cmd := shell(`trap "" TERM HUP INT; echo ready; setsid sleep 1000 & sleep 1000`)
		_, err := s.Run(ctx, cmd, stdout, io.Discard)
		if !errors.Is(err, why) || errors.Is(err, execserver.ErrUnsettled) {
			t.Errorf("got %v, want the cause of the cancellation", err)
		}
		if left := s.children(t); len(left) != 0 {
			t.Errorf("processes %v are left when Run returns", left)
		}
		if got := s.ok(t, shell("echo /proc/[0-9]*")); len(strings.Fields(got)) != 2 {
			t.Errorf("processes %s are left, want the server and the shell", got)
		}
	}
}

// A call that is cancelled while it waits for its turn runs nothing.
func TestCancelInTheQueue(t *testing.T) {
	s := startServer(t, options{})
	dir := publicDir(t)
	first, stopFirst := context.WithCancel(t.Context())
	var calls sync.WaitGroup
	calls.Go(func() {
		_, err := s.Run(first, shell("touch $1/first; sleep 1000", dir), io.Discard, io.Discard)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
	eventually(t, "the first command runs", func() bool { return exists(dir + "/first") })
	second, stopSecond := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer stopSecond()
	if _, err := s.Run(second, shell("touch $1/second", dir), io.Discard, io.Discard); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	stopFirst()
	calls.Wait()
	s.ok(t, shell("touch $1/third", dir))
	if exists(dir + "/second") {
		t.Error("a call that was cancelled in the queue ran")
	}
}

// The same if the server has the request already, since another client's command runs.
func TestCancelInTheServersQueue(t *testing.T) {
	s := startServer(t, options{})
	other, err := execserver.Dial(s.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer closeAll(t, other)
	dir := publicDir(t)
	first, stopFirst := context.WithCancel(t.Context())
	defer stopFirst()
	var calls sync.WaitGroup
	calls.Go(func() {
		if _, err := s.Run(first, shell("touch $1/first; sleep 1000", dir), io.Discard, io.Discard); !errors.Is(err, context.Canceled) {
			t.Errorf("the first: got %v", err)
		}
	})
	eventually(t, "the first command runs", func() bool { return exists(dir + "/first") })
	for range 3 {
		second, stopSecond := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer stopSecond()
		calls.Go(func() {
			_, err := other.Run(second, shell("touch $1/second", dir), io.Discard, io.Discard)
			if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, execserver.ErrUnsettled) {
				t.Errorf("the second: got %v", err)
			}
		})
		<-second.Done()
	}
	stopFirst()
	calls.Wait()
	s.ok(t, shell("touch $1/third", dir))
	if exists(dir + "/second") {
		t.Error("a call that was cancelled in the queue ran")
	}
}

func TestWriterThatFails(t *testing.T) {
	s := startServer(t, options{})
	full := errors.New("disk full")
	for range 3 {
		broken := writerFunc(func([]byte) (int, error) { return 0, full })
		if _, err := s.Run(t.Context(), shell("yes"), broken, io.Discard); !errors.Is(err, full) || errors.Is(err, execserver.ErrUnsettled) {
			t.Errorf("got %v, want the writer's error", err)
		}
		if left := s.children(t); len(left) != 0 {
			t.Errorf("processes %v are left when Run returns", left)
		}
	}
	s.ok(t, shell("exit 0"))
}

func TestServerKilledWhileACommandRuns(t *testing.T) {
	s := startServer(t, options{})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	stdout := writerFunc(func(p []byte) (int, error) { return len(p), s.kill() })
	_, err := s.Run(ctx, shell("echo ready; sleep 1000"), stdout, io.Discard)
	if !errors.Is(err, execserver.ErrUnsettled) || ctx.Err() != nil || !strings.Contains(err.Error(), s.socket) {
		t.Errorf("got %v, want an error that names the socket", err)
	}
	if _, err := s.Run(ctx, shell("exit 0"), io.Discard, io.Discard); err == nil || ctx.Err() != nil {
		t.Errorf("got %v, want an error at once", err)
	}
}

func TestShutdownEndsTheCommand(t *testing.T) {
	s := startServer(t, options{})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	stdout := writerFunc(func(p []byte) (int, error) { return len(p), s.stop() })
	_, err := s.Run(ctx, shell(`trap "" TERM; echo ready; sleep 1000`), stdout, io.Discard)
	if err == nil || ctx.Err() != nil {
		t.Errorf("got %v, want an error", err)
	}
	select {
	case <-s.exited:
	case <-ctx.Done():
		t.Fatal("the server goes on")
	}
	if code := s.state.ExitCode(); code != 0 {
		t.Errorf("exit code %d, want 0: %s", code, s.log)
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
