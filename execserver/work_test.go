package execserver_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hearth-build/hearth/execserver"
)

// echoing is a worker of the test's shell: it answers each line, and with some does
// something else.
func echoing(dir string) execserver.WorkerCommand {
	cmd := shell(`
		echo started >&2
		n=0
		while read -r line; do
			n=$((n+1))
			case "$line" in
			die) exit 7 ;;
			hang) while :; do :; done ;;
			fork) sleep 1000 & ;;
			spin) (while :; do true; done) & ;;
			touch) > "$TMP/left" ;;
			file) cat file ;;
			esac
			echo "$n $line"
		done`)
	cmd.Dir = dir
	return execserver.WorkerCommand{Command: cmd}
}

// ask lends the worker for one line and returns its answer, and whether it was started
// for that.
func (s *server) ask(t *testing.T, cmd execserver.WorkerCommand, line string) (answer string, fresh bool, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return s.askUntil(ctx, cmd, line)
}

func (s *server) askUntil(ctx context.Context, cmd execserver.WorkerCommand, line string) (answer string, fresh bool, err error) {
	var stderr bytes.Buffer
	result, err := s.Work(ctx, cmd, &stderr, func(w execserver.Worker) error {
		fresh = w.Fresh
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
		answer, err = bufio.NewReader(w).ReadString('\n')
		return err
	})
	if err == nil && result.TimedOut {
		err = timedOut{}
	}
	return strings.TrimSpace(answer), fresh, err
}

type timedOut struct{}

func (timedOut) Error() string { return "timed out" }

func (s *server) wantAnswer(t *testing.T, cmd execserver.WorkerCommand, line, want string, wantFresh bool) {
	t.Helper()
	if answer, fresh, err := s.ask(t, cmd, line); err != nil || answer != want || fresh != wantFresh {
		t.Fatalf("asked %q: answer %q, fresh %v, %v; want %q, fresh %v\nserver: %s", line, answer, fresh, err, want, wantFresh, s.log)
	}
}

// A worker goes on from call to call, unless another one or a command is wanted.
func TestWorkerIsKept(t *testing.T) {
	s := startServer(t, options{})
	w := echoing(publicDir(t))
	s.wantAnswer(t, w, "a", "1 a", true)
	s.wantAnswer(t, w, "b", "2 b", false)
	w.Timeout = time.Hour // which is no part of what it is
	s.wantAnswer(t, w, "c", "3 c", false)
	for what, change := range map[string]func(w *execserver.WorkerCommand){
		"identity":    func(w *execserver.WorkerCommand) { w.Identity = []byte("x") },
		"environment": func(w *execserver.WorkerCommand) { w.Env = append(w.Env, "A=B") },
		"user":        func(w *execserver.WorkerCommand) { w.UID, w.GID = nobody, nobody },
	} {
		other := w
		change(&other)
		t.Run(what, func(t *testing.T) {
			s.wantAnswer(t, other, "d", "1 d", true)
			s.wantAnswer(t, other, "e", "2 e", false)
			if n := len(s.children(t)); n != 1 {
				t.Errorf("%d processes with one worker", n)
			}
		})
	}
	if got := s.ok(t, shell("echo command")); got != "command\n" {
		t.Errorf("a command printed %q", got)
	}
	if n := len(s.children(t)); n != 0 {
		t.Errorf("%d processes are left beside a command", n)
	}
	s.wantAnswer(t, w, "f", "1 f", true)
}

// Between calls nothing of a worker runs, its descendants included, and what they
// left is there. A command finds nothing of it.
func TestWorkerIsStopped(t *testing.T) {
	scratch := publicDir(t)
	s := startServer(t, options{scratch: []string{scratch}})
	w := echoing(publicDir(t))
	w.Env = append(w.Env, "TMP="+scratch)
	s.wantAnswer(t, w, "touch", "1 touch", true)
	s.wantAnswer(t, w, "spin", "2 spin", false)
	eventually(t, "all have stopped", func() bool {
		states := map[string]int{}
		for _, state := range s.states(t) {
			states[state]++
		}
		return len(states) == 1 && states["T"] >= 2
	})
	if _, err := os.Stat(filepath.Join(scratch, "left")); err != nil {
		t.Errorf("what the worker left: %v", err)
	}
	s.wantAnswer(t, w, "go on", "3 go on", false)
	if got := s.ok(t, shell(`ls "$1"`, scratch)); strings.Contains(got, "left") {
		t.Errorf("a command finds %q", got)
	}
	if n := len(s.children(t)); n != 0 {
		t.Errorf("%d processes are left", n)
	}
}

// states of the processes below the server, as the kernel calls them.
func (s *server) states(t *testing.T) (states []string) {
	t.Helper()
	below := s.children(t)
	for len(below) > 0 {
		pid := below[0]
		below = below[1:]
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue // it has ended
		}
		_, rest, _ := strings.Cut(string(stat), ") ")
		states = append(states, rest[:1])
		below = append(below, childrenOf(t, pid)...)
	}
	return states
}

// Whatever ends a worker leaves a server that starts another one.
func TestWorkerEnds(t *testing.T) {
	s := startServer(t, options{})
	w := echoing(publicDir(t))
	var ended *execserver.WorkerError
	s.wantAnswer(t, w, "fork", "1 fork", true)
	if _, _, err := s.ask(t, w, "die"); !errors.As(err, &ended) || ended.Ended == nil || ended.Ended.ExitCode != 7 || ended.Ended.Killed != 1 {
		t.Errorf("a worker that exits: %v", err)
	}
	s.wantAnswer(t, w, "a", "1 a", true)
	quick := execserver.WorkerCommand{Command: shell("exit 8")}
	if _, _, err := s.ask(t, quick, "a"); !errors.As(err, &ended) || ended.Ended == nil || ended.Ended.ExitCode != 8 {
		t.Errorf("a worker that exits at once: %v", err)
	}
	s.wantAnswer(t, w, "a", "1 a", true)

	refused := errors.New("this is no answer")
	_, err := s.Work(t.Context(), w, os.Stderr, func(execserver.Worker) error { return refused })
	if !errors.As(err, &ended) || ended.Ended != nil || !errors.Is(err, refused) || errors.Is(err, execserver.ErrUnsettled) {
		t.Errorf("a worker that is misunderstood: %v", err)
	}
	if n := len(s.children(t)); n != 0 {
		t.Errorf("%d processes are left", n)
	}
	s.wantAnswer(t, w, "a", "1 a", true)

	slow := w
	slow.Timeout = 50 * time.Millisecond
	if _, _, err := s.ask(t, slow, "hang"); !errors.Is(err, timedOut{}) {
		t.Errorf("a worker that hangs: %v", err)
	}
	s.wantAnswer(t, w, "a", "1 a", true)

	ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, errors.New("the client is gone"))
	defer cancel()
	if _, _, err := s.askUntil(ctx, w, "hang"); err == nil || errors.As(err, &ended) || !strings.Contains(err.Error(), "the client is gone") {
		t.Errorf("a cancelled call: %v", err)
	}
	s.wantAnswer(t, w, "a", "1 a", true)

	// It is killed while nobody looks.
	for _, pid := range s.children(t) {
		if p, err := os.FindProcess(pid); err != nil || p.Kill() != nil {
			t.Fatal("cannot kill the worker")
		}
	}
	eventually(t, "the worker is dead", func() bool { _, fresh, err := s.ask(t, w, "a"); return err == nil && fresh })

	missing := w
	missing.Args = []string{"/nowhere"}
	var notStarted *execserver.StartError
	if _, _, err := s.ask(t, missing, "a"); !errors.As(err, &notStarted) || notStarted.Fault() {
		t.Errorf("a worker that does not exist: %v", err)
	}
	s.wantAnswer(t, w, "a", "1 a", true)
}

// More than pipes hold goes both ways.
func TestWorkerTakesMuch(t *testing.T) {
	s := startServer(t, options{})
	cat := execserver.WorkerCommand{Command: shell("exec cat")}
	sent := bytes.Repeat([]byte("0123456789abcdef"), 3<<20/16)
	for range 2 {
		_, err := s.Work(t.Context(), cat, os.Stderr, func(w execserver.Worker) error {
			wrote := make(chan error, 1)
			go func() {
				_, err := w.Write(sent)
				wrote <- err
			}()
			got := make([]byte, len(sent))
			for n := 0; n < len(got); {
				k, err := w.Read(got[n:])
				if err != nil {
					return err
				}
				n += k
			}
			if !bytes.Equal(got, sent) {
				return errors.New("it is not what was sent")
			}
			return <-wrote
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
