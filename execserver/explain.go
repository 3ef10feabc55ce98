package execserver

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/hearth-build/hearth/execserver/execpb"
)

func notStarted(reason execpb.NotStarted_Reason, format string, args ...any) *execpb.NotStarted {
	return &execpb.NotStarted{Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// explain finds out why a program could not be started. An error number alone
// does not tell: ENOENT may mean the working directory, the program or its
// interpreter. An empty name means that the search path had none.
func (c *Command) explain(name string, cause error) *execpb.NotStarted {
	switch {
	case errors.Is(cause, syscall.E2BIG):
		return notStarted(execpb.NotStarted_TOO_LARGE,
			"cannot run %s: its arguments and environment are larger than the system takes; use a parameter file", name)
	case errors.Is(cause, syscall.ENOEXEC), errors.Is(cause, syscall.ELIBBAD):
		return notStarted(execpb.NotStarted_BAD_FORMAT,
			"cannot run %s: it is neither a program for this machine nor a script that begins with #!", name)
	}
	if !ofLookup(cause) {
		return notStarted(execpb.NotStarted_FAULT, "cannot run %s: %v", name, cause)
	}
	if err := c.stat(c.Dir + "/."); err != nil {
		return notStarted(execpb.NotStarted_BAD_DIRECTORY, "cannot run in working directory %s: %v", c.Dir, err)
	}
	if name == "" {
		return notStarted(execpb.NotStarted_NOT_FOUND, "%q was not found in PATH=%s", c.Args[0], c.searchPath())
	}
	if errors.Is(cause, syscall.EACCES) {
		return c.refused(name)
	}
	if err := c.stat(c.resolve(name)); err != nil {
		return notStarted(execpb.NotStarted_NOT_FOUND, "cannot run %s: %v", name, err)
	}
	if errors.Is(cause, syscall.ELOOP) {
		return notStarted(execpb.NotStarted_BAD_FORMAT, "cannot run %s: its interpreter is a script, and so on", name)
	}
	return notStarted(execpb.NotStarted_NO_INTERPRETER,
		"cannot run %s: it exists, but its %s does not", name, interpreter(c.resolve(name)))
}

// refused explains EACCES.
func (c *Command) refused(name string) *execpb.NotStarted {
	what := fmt.Sprintf("user %d has no permission to execute it, or the interpreter that it names", c.UID)
	var st unix.Stat_t
	if err := unix.Stat(c.resolve(name), &st); err == nil {
		switch {
		case st.Mode&unix.S_IFMT == unix.S_IFDIR:
			what = "it is a directory"
		case st.Mode&unix.S_IFMT != unix.S_IFREG:
			what = "it is no regular file"
		case st.Mode&0o111 == 0:
			what = "it is not marked executable"
		}
	}
	return notStarted(execpb.NotStarted_NOT_EXECUTABLE, "cannot run %s: %s", name, what)
}

// ofLookup says whether an error is about finding a file, rather than about
// the file or the system.
func ofLookup(err error) bool {
	for _, errno := range []syscall.Errno{
		syscall.ENOENT, syscall.ENOTDIR, syscall.EACCES, syscall.ELOOP, syscall.ENAMETOOLONG,
	} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// stat says whether the user that the command runs as can reach a path.
func (c *Command) stat(path string) error {
	return asUser(c.UID, c.GID, func() error {
		var st unix.Stat_t
		return unix.Stat(path, &st)
	})
}

// interpreter names what a script wants to be run by, as far as that can be read.
func interpreter(path string) string {
	const loader = "dynamic loader"
	file, err := os.Open(path)
	if err != nil {
		return loader
	}
	line, err := bufio.NewReaderSize(file, 256).ReadSlice('\n')
	if errors.Join(err, file.Close()) != nil || !strings.HasPrefix(string(line), "#!") {
		return loader
	}
	fields := strings.Fields(string(line[2:]))
	if len(fields) == 0 {
		return "interpreter"
	}
	return "interpreter " + fields[0]
}
