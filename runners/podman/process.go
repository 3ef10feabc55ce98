package podman

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hearth-build/hearth/runners"
)

// program is an installed podman.
type program struct {
	path    string
	version string
	major   int
}

// findPodman looks for podman in the search path.
func findPodman(ctx context.Context, name string) (program, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return program{}, fmt.Errorf("%w: podman is not installed (%w); install it, on Debian and Ubuntu with "+
			"`apt-get install podman`, elsewhere with the distribution's package manager, and see `hearth doctor`", runners.ErrBackend, err)
	}
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return program{}, fmt.Errorf("%w: %s --version fails: %w", runners.ErrBackend, path, err)
	}
	p := program{path: path, version: strings.TrimSpace(strings.TrimPrefix(string(out), "podman version"))}
	major, _, _ := strings.Cut(p.version, ".")
	if p.major, err = strconv.Atoi(major); err != nil {
		return program{}, fmt.Errorf("%w: %s --version prints %q, which is no version", runners.ErrBackend, path, out)
	}
	return p, nil
}

// oldestPodman is the first major version whose API the bindings speak.
const oldestPodman = 4

// environment of a service with a containers.conf. Since podman 5 that can add
// to the user's own; before, it replaces it.
func (p program) environment(conf string) []string {
	name := "CONTAINERS_CONF"
	if p.major >= 5 {
		name = "CONTAINERS_CONF_OVERRIDE"
	}
	var env []string
	for _, entry := range os.Environ() {
		key, _, _ := strings.Cut(entry, "=")
		switch key {
		case name, "CONTAINER_HOST", "CONTAINER_CONNECTION", "NOTIFY_SOCKET", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES":
			continue // of hearth itself or of a client of another service
		}
		env = append(env, entry)
	}
	return append(env, name+"="+conf)
}

// serviceProcess is how a service is started.
type serviceProcess struct {
	program     program
	environment []string
	socket      socketDir
}

// serviceChild is a service that was started.
type serviceChild struct {
	cmd      *exec.Cmd
	output   *os.File
	last     lastLine
	routines sync.WaitGroup

	heard  chan struct{} // closed when all that it printed was read
	exited chan struct{} // closed when the process was waited for
	err    error         // set before exited is closed
}

// start must be called on a thread that lives as long as hearth.
func (p serviceProcess) start(log *slog.Logger) (*serviceChild, error) {
	if err := os.Remove(p.socket.path()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("remove an old socket: %w", err)
	}
	output, input, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(p.program.path, "system", "service", "--time=0", "unix://"+p.socket.path())
	// Where conmon leaves a file called oom when memory runs out in a container.
	cmd.Dir = filepath.Dir(p.socket.path())
	cmd.Env = p.environment
	cmd.Stdout, cmd.Stderr = input, input
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	c := &serviceChild{cmd: cmd, output: output, heard: make(chan struct{}), exited: make(chan struct{})}
	if err := errors.Join(cmd.Start(), input.Close()); err != nil {
		return nil, errors.Join(fmt.Errorf("start the podman service: %w", err), output.Close())
	}
	c.routines.Go(func() { c.follow(log) })
	c.routines.Go(func() {
		c.err = cmd.Wait()
		close(c.exited)
	})
	return c, nil
}

func (c *serviceChild) pid() int { return c.cmd.Process.Pid }

// follow passes what the service prints to the log.
func (c *serviceChild) follow(log *slog.Logger) {
	defer close(c.heard)
	lines := bufio.NewScanner(c.output)
	for lines.Scan() {
		c.last.set(lines.Text())
		log.Debug("podman service", "output", lines.Text())
	}
	// After a line that is too long the rest is dropped, but read all the same:
	// a full pipe would stop the service. Closing the pipe ends this.
	_, _ = io.Copy(io.Discard, c.output)
}

// hearingTime is how long the last words of a service may be on their way.
const hearingTime = 500 * time.Millisecond

// end says how the service ended, once it has. Its last words may come a moment
// later, or never an end of them: conmon has the other end of the pipe, too.
func (c *serviceChild) end() error {
	select {
	case <-c.heard:
	case <-time.After(hearingTime):
	}
	return fmt.Errorf("it ended with %v; its last words: %s", c.cmd.ProcessState, c.last.get())
}

// stop ends the service, gently first, if it has not ended, and waits for it.
func (c *serviceChild) stop() error {
	err := c.signal()
	// conmon may hold the other end of the pipe for long.
	err = errors.Join(err, c.output.Close())
	if err == nil {
		c.routines.Wait()
	}
	return err
}

func (c *serviceChild) signal() error {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		select {
		case <-c.exited:
			return nil
		default:
		}
		// Its group has no other processes than its own children.
		if err := syscall.Kill(-c.pid(), sig); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("end the podman service: %w", err)
		}
		select {
		case <-c.exited:
			return nil
		case <-time.After(serviceStopTimeout):
		}
	}
	return fmt.Errorf("the podman service, process %d, is still there %v after it was killed", c.pid(), serviceStopTimeout)
}

// lastLine remembers what a process said last.
type lastLine struct {
	mu   sync.Mutex // guards text
	text string
}

func (l *lastLine) set(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = text
}

func (l *lastLine) get() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.text == "" {
		return "(none)"
	}
	return l.text
}
