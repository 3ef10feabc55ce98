package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// On a terminal one line tells how far it is, and is gone in the end.
func TestProgressOnATerminal(t *testing.T) {
	t.Setenv("TERM", "xterm")
	terminal, screen := openTerminal(t)
	if err := unix.IoctlSetWinsize(int(terminal.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 5, Col: 22}); err != nil {
		t.Fatal(err)
	}
	p := newProgress(terminal)
	p.show("checked", 1, 3)
	p.show("checked", 2, 3) // too soon
	p.say("Copying blob \x1b[2J and much more")
	p.end()
	const want = "\r\x1b[Kchecked 1 of 3 (33 %)" + "\r\x1b[KCopying blob \\x1b[2J " + "\r\x1b[K"
	got := make([]byte, len(want))
	if _, err := io.ReadFull(screen, got); err != nil || string(got) != want {
		t.Errorf("the terminal shows %q, %v", got, err)
	}
}

// Where nobody sees the line there is none, and what is measured is measured as well.
func TestProgressElsewhere(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	terminal, _ := openTerminal(t)
	t.Setenv("TERM", "dumb")
	if newProgress(terminal).shown() {
		t.Error("a dumb terminal gets a line that changes")
	}
	t.Setenv("TERM", "xterm")
	for _, p := range []*progress{newProgress(file), nil} {
		p.show("checked", 1, 3)
		p.say("x")
		m, err := load{concurrency: 1, duration: time.Minute, count: 3, progress: p}.measure(t.Context(), "x", func(context.Context) error { return nil })
		if err != nil || m.Count != 3 {
			t.Errorf("%+v, %v", m, err)
		}
		p.following("x")()
		p.end()
	}
	if info, err := file.Stat(); err != nil || info.Size() != 0 {
		t.Errorf("a file got %d bytes, %v", info.Size(), err)
	}
}

// What is measured is followed until it ends.
func TestProgressOfALoad(t *testing.T) {
	t.Setenv("TERM", "xterm")
	terminal, screen := openTerminal(t)
	shown := make(chan string, 1)
	go func() { shown <- readScreen(screen) }()
	seen := 0
	p := newProgress(terminal)
	// The second comes only after the line has changed.
	m, err := load{concurrency: 1, duration: time.Hour, count: 2, progress: p}.measure(t.Context(), "thing", func(ctx context.Context) error {
		if seen++; seen == 1 {
			return nil
		}
		tick := time.NewTicker(3 * progressInterval)
		defer tick.Stop()
		<-tick.C
		return ctx.Err()
	})
	if err != nil || m.Count != 2 {
		t.Errorf("%+v, %v", m, err)
	}
	terminal.Close()
	if got := <-shown; !strings.HasPrefix(got, "\r\x1b[Kthing: ") || !strings.Contains(got, " of 2, 0s") || !strings.HasSuffix(got, "\r\x1b[K") {
		t.Errorf("the terminal shows %q", got)
	}
}

// Only a person at a terminal sees colours, unless they want none (https://no-color.org).
func TestColours(t *testing.T) {
	dataDir := t.TempDir()
	doctor := func(env []string, flags ...string) *exec.Cmd {
		cmd := self(t, append([]string{"doctor", "--store", "--data-dir=" + dataDir}, flags...)...)
		cmd.Env = append(append(cmd.Env, "TERM=xterm", "NO_COLOR="), env...)
		return cmd
	}
	shows := func(cmd *exec.Cmd) string {
		shown, err := onTerminal(t, cmd, &cmd.Stdout)
		if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		return shown
	}
	if got := shows(doctor(nil)); !strings.HasPrefix(got, "\x1b[1;31mPROBLEM\x1b[0m  store ") {
		t.Errorf("of no store: %q", got)
	}
	if err := openStore(t, dataDir).Close(); err != nil {
		t.Fatal(err)
	}
	if got := shows(doctor(nil)); !strings.HasPrefix(got, "\x1b[32mok     \x1b[0m  store ") {
		t.Errorf("of a store: %q", got)
	}
	for name, cmd := range map[string]*exec.Cmd{
		"NO_COLOR": doctor([]string{"NO_COLOR=1"}), "TERM=dumb": doctor([]string{"TERM=dumb"}), "--json": doctor(nil, "--json"),
	} {
		if got := shows(cmd); strings.Contains(got, "\x1b") || !strings.Contains(got, "all whole") {
			t.Errorf("%s: %q", name, got)
		}
	}
	if out, err := doctor(nil).Output(); err != nil || bytes.Contains(out, []byte("\x1b")) || !bytes.HasPrefix(out, []byte("ok       store ")) {
		t.Errorf("into a pipe: %q, %v", out, err)
	}
}

// A bench tells on a terminal how far it is, and nothing elsewhere; its results are the
// same.
func TestProgressOfABench(t *testing.T) {
	s := serve(t, "127.0.0.1:0", t.TempDir(), "--execserver=/bin/true")
	bench := func() *exec.Cmd {
		cmd := self(t, "bench", "cas", "--endpoint="+s.endpoint, "--only=get-capabilities", "--rounds=1", "--duration=300ms")
		cmd.Env = append(cmd.Env, "TERM=xterm")
		return cmd
	}
	var stdout bytes.Buffer
	cmd := bench()
	cmd.Stdout = &stdout
	shown, err := onTerminal(t, cmd, &cmd.Stderr)
	if err != nil || !strings.HasPrefix(shown, "\r\x1b[Kget-capabilities, 1 in flight, row 1 of 1: 0s") || !strings.HasSuffix(shown, "\r\x1b[K") {
		t.Errorf("the terminal shows %q, %v", shown, err)
	}
	if !strings.Contains(stdout.String(), "get-capabilities") || strings.Contains(stdout.String(), "\x1b") {
		t.Errorf("stdout: %q", stdout.String())
	}
	if out, err := bench().CombinedOutput(); err != nil || bytes.Contains(out, []byte("row 1 of 1")) {
		t.Errorf("into a pipe: %q, %v", out, err)
	}
}

// onTerminal runs a command of which these outputs are a terminal, and returns what that
// shows.
func onTerminal(t *testing.T, cmd *exec.Cmd, outputs ...*io.Writer) (shown string, err error) {
	t.Helper()
	terminal, screen := openTerminal(t)
	for _, output := range outputs {
		*output = terminal
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	terminal.Close() // the command has its own
	shown = readScreen(screen)
	return shown, cmd.Wait()
}

// readScreen is what is written to a terminal until nobody has it open.
func readScreen(screen *os.File) string {
	shown, err := io.ReadAll(screen)
	if err != nil && !errors.Is(err, syscall.EIO) { // which is the end
		return fmt.Sprintf("%s: %v", shown, err)
	}
	return string(shown)
}

// openTerminal returns both sides of a terminal.
func openTerminal(t *testing.T) (terminal, screen *os.File) {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { screen.Close() })
	if err := unix.IoctlSetPointerInt(int(screen.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(screen.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { terminal.Close() })
	return terminal, screen
}
