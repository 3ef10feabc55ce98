package execserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hearth-build/hearth/execserver/execpb"
)

// timerSlack is how late the timers of a command may be: what Linux gives to the
// first process.
const timerSlack = 50 * time.Microsecond

// child is the main process of a command.
type child struct {
	pid   int
	pidfd int // readable once the process has ended
}

// commandOf reads a request.
func commandOf(req *execpb.RunRequest) (Command, *execpb.NotStarted) {
	cmd := Command{
		Args: make([]string, len(req.Arguments)),
		Env:  make([]string, len(req.Environment)),
		Dir:  string(req.Directory),
		UID:  req.Uid, GID: req.Gid,
		Timeout: time.Duration(req.TimeoutNanos),
		Grace:   time.Duration(req.GraceNanos),
	}
	for i, arg := range req.Arguments {
		if bytes.IndexByte(arg, 0) >= 0 {
			return cmd, notStarted(execpb.NotStarted_INVALID, "argument %d contains a NUL byte: %q", i, arg)
		}
		cmd.Args[i] = string(arg)
	}
	for i, entry := range req.Environment {
		if bytes.IndexByte(entry, 0) >= 0 {
			return cmd, notStarted(execpb.NotStarted_INVALID, "the environment contains a NUL byte: %q", entry)
		}
		cmd.Env[i] = string(entry)
	}
	if len(cmd.Args) == 0 || cmd.Args[0] == "" {
		return cmd, notStarted(execpb.NotStarted_INVALID, "there is no program to run: the first argument is empty")
	}
	if !strings.HasPrefix(cmd.Dir, "/") || strings.IndexByte(cmd.Dir, 0) >= 0 {
		return cmd, notStarted(execpb.NotStarted_BAD_DIRECTORY, "the working directory %q is no absolute path", cmd.Dir)
	}
	return cmd, nil
}

// start starts the command, whose argv[0] is looked up as execvp does it: a
// file that the user may not execute does not end the search, but is told if
// there is no other.
func (c *Command) start(ctx context.Context, stdio []uintptr) (child, *execpb.NotStarted) {
	name := c.Args[0]
	if strings.Contains(name, "/") {
		started, err := c.forkRetrying(ctx, name, stdio)
		if err != nil {
			return child{}, c.explain(name, err)
		}
		return started, nil
	}
	refused := ""
	for dir := range strings.SplitSeq(c.searchPath(), ":") {
		if dir == "" {
			dir = "."
		}
		candidate := dir + "/" + name
		err := c.probe(candidate)
		if err == nil {
			var started child
			if started, err = c.forkRetrying(ctx, candidate, stdio); err == nil {
				return started, nil
			}
			if !errors.Is(err, syscall.EACCES) {
				return child{}, c.explain(candidate, err)
			}
		}
		if errors.Is(err, syscall.EACCES) && refused == "" {
			refused = candidate
		}
	}
	if refused != "" {
		return child{}, c.explain(refused, syscall.EACCES)
	}
	return child{}, c.explain("", syscall.ENOENT)
}

// searchPath is the PATH of the command.
func (c *Command) searchPath() string {
	for _, entry := range c.Env {
		if value, ok := strings.CutPrefix(entry, "PATH="); ok {
			return value
		}
	}
	return DefaultPath
}

// probe tells quickly which files of the search path need no attempt. It errs
// on the side of trying: only the kernel knows what a user may execute.
func (c *Command) probe(name string) error {
	var st unix.Stat_t
	err := unix.Stat(c.resolve(name), &st)
	switch {
	case errors.Is(err, unix.EACCES):
		return nil // the server may lack a right that the user has
	case err != nil:
		return err
	case st.Mode&unix.S_IFMT != unix.S_IFREG, st.Mode&0o111 == 0:
		return unix.EACCES
	}
	return nil
}

// resolve says where the server finds what the command calls name.
func (c *Command) resolve(name string) string {
	if strings.HasPrefix(name, "/") {
		return name
	}
	return c.Dir + "/" + name
}

// forkRetrying waits a little for an executable to be closed by its writer. It
// was written just now, and a fork elsewhere on the host can hold a copy of the
// writer's descriptor for a moment, until its exec.
func (c *Command) forkRetrying(ctx context.Context, name string, stdio []uintptr) (child, error) {
	for delay := time.Millisecond; ; delay *= 2 {
		started, err := c.fork(name, stdio)
		if !errors.Is(err, syscall.ETXTBSY) || delay > 256*time.Millisecond || ctx.Err() != nil {
			return started, err
		}
		time.Sleep(delay)
	}
}

// fork starts the program at name, a path that is relative to Dir if it is
// relative.
func (c *Command) fork(name string, stdio []uintptr) (child, error) {
	started := child{pidfd: -1}
	attr := syscall.ProcAttr{
		Dir:   c.Dir,
		Env:   c.Env, // nil is the empty environment here, other than for package os
		Files: stdio,
		Sys: &syscall.SysProcAttr{
			Setsid:     true,
			Credential: &syscall.Credential{Uid: c.UID, Gid: c.GID},
			PidFD:      &started.pidfd,
		},
	}
	// The child gets the signal mask of the thread, which may have one of the
	// container engine's, and the slack of its timers, which may be a relaxed monitor's.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &unix.Sigset_t{}, nil); err != nil {
		return child{}, fmt.Errorf("clear the signal mask: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(timerSlack), 0, 0, 0); err != nil {
		return child{}, fmt.Errorf("give commands the usual timer slack: %w", err)
	}
	var err error
	started.pid, err = syscall.ForkExec(name, c.Args, &attr)
	return started, err
}
