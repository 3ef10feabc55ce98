package rootless

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// stage is the variable that says how far the way into the namespace is. Its first
// process is nobody there until the maps are written, and so starts once more.
const (
	stage    = "_HEARTH_ROOTLESS_STAGE"
	unmapped = "unmapped"
	mapped   = "mapped"
)

// lifeline is the descriptor of a pipe from the process outside: a byte says that the
// maps are written, the end that there is nobody outside any more.
const lifeline = 3

// Run is to be called before anything else. Root returns at once, with ended false. Any
// other user's process starts its program once more, as root of a user namespace,
// passes on signals, and returns with its exit code when it has ended.
func Run() (code int, ended bool, err error) {
	switch os.Getenv(stage) {
	case unmapped:
		return 1, true, enter()
	case mapped:
		return 0, false, arrive()
	}
	if IsRoot() {
		return 0, false, nil
	}
	maps, err := findIDs("/etc")
	if err != nil {
		return 1, true, err
	}
	code, err = start(maps)
	return code, true, err
}

// start runs the program in a namespace to its end.
func start(maps ids) (code int, err error) {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2)
	defer signal.Stop(signals)
	inner, outer, err := os.Pipe()
	if err != nil {
		return 1, err
	}
	defer outer.Close()
	cmd, err := program(maps, inner)
	if err != nil {
		return 1, errors.Join(err, inner.Close())
	}
	err = cmd.Start()
	if err := errors.Join(err, inner.Close()); err != nil {
		return 1, fmt.Errorf("%w: %w: the kernel may forbid it (sysctl kernel.unprivileged_userns_clone=1, user.max_user_namespaces, "+
			"or kernel.apparmor_restrict_unprivileged_userns=0 allow it); or run hearth as root", ErrHost, err)
	}
	if err = maps.write(cmd.Process.Pid); err == nil {
		_, err = outer.Write([]byte{0})
	}
	if err != nil {
		return 1, errors.Join(err, outer.Close(), ignoreExit(cmd.Wait()))
	}
	over := make(chan struct{})
	go passOn(signals, cmd.Process, over)
	defer close(over)
	if err := ignoreExit(cmd.Wait()); err != nil {
		return 1, err
	}
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal()), nil
	}
	return cmd.ProcessState.ExitCode(), nil
}

// program is this one, for its first start in the namespace.
func program(maps ids, lifeline *os.File) (*exec.Cmd, error) {
	path, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(path, os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), stage+"="+unmapped, hostUID+"="+strconv.Itoa(maps.uid), hostGID+"="+strconv.Itoa(maps.gid))
	cmd.ExtraFiles = []*os.File{lifeline}
	// Signals of a terminal come by this process alone, and so once.
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS, Setpgid: true}
	return cmd, nil
}

// passOn sends signals to a process until it is over.
func passOn(signals <-chan os.Signal, to *os.Process, over <-chan struct{}) {
	for {
		select {
		case sig := <-signals:
			_ = to.Signal(sig) // it may have ended
		case <-over:
			return
		}
	}
}

func ignoreExit(err error) error {
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return nil
	}
	return err
}

// enter waits until this process is root of its namespace, and starts the program again
// as that: only then it has root's capabilities.
func enter() error {
	if n, err := unix.Read(lifeline, make([]byte, 1)); err != nil || n == 0 {
		return errors.Join(errors.New("the process that made this user namespace has ended"), err)
	}
	path, err := os.Executable()
	if err := errors.Join(err, os.Setenv(stage, mapped), os.Setenv(configured, "done")); err != nil {
		return err
	}
	return fmt.Errorf("start again in the user namespace: %w", syscall.Exec(path, os.Args, os.Environ()))
}

// arrive makes a SIGTERM of the end of the process outside.
func arrive() error {
	unix.CloseOnExec(lifeline)
	if err := errors.Join(os.Unsetenv(stage), unix.SetNonblock(lifeline, true)); err != nil {
		return err
	}
	pipe := os.NewFile(lifeline, "lifeline")
	go func() { // ends with the process
		_, _ = io.Copy(io.Discard, pipe) // how it ends is the same
		_ = unix.Kill(os.Getpid(), unix.SIGTERM)
	}()
	return nil
}
