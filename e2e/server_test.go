package e2e_test

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// hearth is a running `hearth serve`.
type hearth struct {
	dataDir string
	bazelrc string // the lines it told its user to add
	console string // the URL of its console
	cmd     *exec.Cmd
	done    chan struct{} // closed when the process is over
	killed  bool          // by this test, so that it could not clean up
	log     string        // where its standard error goes
}

const (
	startTimeout = time.Minute
	stopTimeout  = 2 * time.Minute
)

// startHearth builds hearth and serves with its image "host" showing hostRoot,
// on a new data directory. When the test ends, hearth is stopped and must have
// left nothing behind.
func startHearth(t *testing.T, hostRoot string) *hearth {
	t.Helper()
	return startHearthOn(t, hostRoot, filepath.Join(shortTempDir(t), "data"))
}

// startHearthOn is startHearth on a data directory that may be there, with more flags.
func startHearthOn(t *testing.T, hostRoot, dataDir string, flags ...string) *hearth {
	t.Helper()
	return startCommand(t, dataDir, exec.Command(program(t), append(serveArgs(hostRoot, dataDir), flags...)...))
}

// program is the hearth of this checkout, built.
func program(t *testing.T) string {
	t.Helper()
	if out, err := exec.Command("make", "-C", "..", "--no-print-directory", "build").CombinedOutput(); err != nil {
		t.Fatalf("make build: %v\n%s", err, out)
	}
	path, err := filepath.Abs("../bin/hearth")
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func serveArgs(hostRoot, dataDir string) []string {
	return []string{
		"serve", "--listen=127.0.0.1:0", "--console=127.0.0.1:0",
		"--data-dir=" + dataDir, "--host-root=" + hostRoot,
	}
}

// startCommand starts a command that becomes `hearth serve` on dataDir.
func startCommand(t *testing.T, dataDir string, cmd *exec.Cmd) *hearth {
	t.Helper()
	return startAnnounced(t, dataDir, cmd, func() {}, (*hearth).served)
}

// startAnnounced starts a command that becomes a hearth on dataDir. It calls started,
// and returns when the hearth works: it has printed all that works waits for.
func startAnnounced(t *testing.T, dataDir string, cmd *exec.Cmd, started func(), works func(*hearth, string) bool) *hearth {
	t.Helper()
	h := &hearth{dataDir: dataDir, cmd: cmd, log: filepath.Join(t.TempDir(), "log")}
	log, err := os.Create(h.log)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	h.cmd.Stderr = log
	stdout, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stdout.Close() })
	h.cmd.Stdout = in
	if err := h.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	in.Close()
	h.wait()
	t.Cleanup(func() { h.stop(t) })
	started()
	h.readAnnouncement(t, stdout, works)
	return h
}

// wait closes done when the process is over.
func (h *hearth) wait() {
	h.done = make(chan struct{})
	go func() { // ends with the process, which stop ends
		defer close(h.done)
		h.cmd.Wait() // how it ended is read from ProcessState
	}()
}

// served takes a line of what `hearth serve` prints: those for the .bazelrc come last.
func (h *hearth) served(line string) bool {
	if strings.HasPrefix(line, "build ") {
		h.bazelrc += line + "\n"
	}
	return line == "" && h.bazelrc != ""
}

// readAnnouncement reads what hearth prints until it works.
func (h *hearth) readAnnouncement(t *testing.T, stdout *os.File, works func(*hearth, string) bool) {
	t.Helper()
	if err := stdout.SetReadDeadline(time.Now().Add(startTimeout)); err != nil {
		t.Fatal(err)
	}
	var printed strings.Builder
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		printed.WriteString(lines.Text() + "\n")
		if url, ok := strings.CutPrefix(line, "console   on "); ok {
			h.console = url
		}
		if works(h, line) {
			return
		}
	}
	t.Fatalf("hearth did not say how to use it (%v); it printed:\n%s\nand logged:\n%s", lines.Err(), &printed, h.logged())
}

// stop asks hearth to end, waits for it, and checks that nothing is left.
func (h *hearth) stop(t *testing.T) {
	t.Helper()
	if h.killed {
		return
	}
	h.signal(t, syscall.SIGTERM)
	select {
	case <-h.done:
	case <-time.After(stopTimeout):
		h.signal(t, syscall.SIGKILL)
		<-h.done
		t.Errorf("hearth did not end within %v of SIGTERM", stopTimeout)
	}
	if code := h.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("hearth ended with %v", h.cmd.ProcessState)
	}
	h.checkNothingLeft(t)
	if t.Failed() {
		t.Logf("hearth logged:\n%s", h.logged())
	}
}

// kill ends hearth without a chance to clean up.
func (h *hearth) kill(t *testing.T) {
	t.Helper()
	h.killed = true
	h.signal(t, syscall.SIGKILL)
	<-h.done
}

// signal sends a signal to a hearth that may be over.
func (h *hearth) signal(t *testing.T, sig os.Signal) {
	t.Helper()
	if err := h.cmd.Process.Signal(sig); err != nil && err != os.ErrProcessDone {
		t.Errorf("send %v to hearth: %v", sig, err)
	}
}

// logged is the end of what hearth wrote to its standard error.
func (h *hearth) logged() string {
	text, err := os.ReadFile(h.log)
	if err != nil {
		return err.Error()
	}
	const most = 20000
	return string(text[max(0, len(text)-most):])
}

// checkNothingLeft looks for mounts below the data directory, for processes that
// were started with a path in it, such as a container's monitor, and for containers.
func (h *hearth) checkNothingLeft(t *testing.T) {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(mounts, []byte(h.dataDir)) {
		t.Errorf("hearth left mounts below %s:\n%s", h.dataDir, mounts)
	}
	if left := processesWith(t, h.dataDir); len(left) > 0 {
		t.Errorf("hearth left processes:\n%s", strings.Join(left, "\n"))
	}
	containers, err := exec.Command("podman", "ps", "--all", "--filter=label=build.hearth.data-dir="+h.dataDir).CombinedOutput()
	if err != nil || bytes.Count(containers, []byte("\n")) > 1 { // one line is the heading
		t.Errorf("hearth left containers (%v):\n%s", err, containers)
	}
}

// processesWith is the command lines of the processes of this machine, those in
// containers included, that have text in their command line.
func processesWith(t *testing.T, text string) []string {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, name := range files {
		line, err := os.ReadFile(name)
		if err == nil && bytes.Contains(line, []byte(text)) {
			found = append(found, filepath.Base(filepath.Dir(name))+" "+string(bytes.ReplaceAll(line, []byte{0}, []byte{' '})))
		}
	}
	slices.Sort(found)
	return found
}
