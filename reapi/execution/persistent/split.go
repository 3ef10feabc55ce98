package persistent

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// Split tells what a worker is started as from what an action asks of it: the
// arguments that name files of flags. ok is false if there are none: the command is
// not made for a worker.
func Split(args []string) (start, flagFiles []string, ok bool) {
	for i, arg := range args {
		if i > 0 && isFlagFile(arg) {
			flagFiles = append(flagFiles, arg)
		} else {
			start = append(start, arg)
		}
	}
	return append(start, "--persistent_worker"), flagFiles, len(flagFiles) > 0
}

func isFlagFile(arg string) bool {
	for _, prefix := range []string{"@", "--flagfile=", "-flagfile="} {
		if rest, ok := strings.CutPrefix(arg, prefix); ok && rest != "" {
			return true
		}
	}
	return false
}

// Bounds of what flag files may amount to.
const (
	maxArgumentBytes = 64 << 20
	maxDepth         = 16
)

// ErrFlagFiles says that flag files are too large, or that they contain each other.
var ErrFlagFiles = errors.New("flag files cannot be read")

// Arguments are what an action asks of a worker: @FILE is replaced by the lines of that
// file, which may be @FILE in their turn; @@TEXT, labels such as @repository//:target,
// and --flagfile=FILE stay, as workers expect it. read returns a file of the action's.
func Arguments(flagFiles []string, read func(name string) ([]byte, error)) ([]string, error) {
	e := expansion{read: read, label: regexp.MustCompile(`^@.*//.*$`)}
	for _, arg := range flagFiles {
		if err := e.add(arg, 0); err != nil {
			return nil, err
		}
	}
	return e.args, nil
}

type expansion struct {
	read  func(name string) ([]byte, error)
	label *regexp.Regexp
	args  []string
	bytes int
}

func (e *expansion) add(arg string, depth int) error {
	name, ok := strings.CutPrefix(arg, "@")
	if !ok || strings.HasPrefix(name, "@") || name == "" || e.label.MatchString(arg) {
		e.args = append(e.args, arg)
		return nil
	}
	if depth == maxDepth {
		return fmt.Errorf("%w: %q is named by files that name each other, more than %d deep", ErrFlagFiles, name, maxDepth)
	}
	data, err := e.read(name)
	if err != nil {
		return err
	}
	if e.bytes += len(data); e.bytes > maxArgumentBytes {
		return fmt.Errorf("%w: together they have more than %d bytes", ErrFlagFiles, maxArgumentBytes)
	}
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")
		if err := e.add(line, depth+1); err != nil {
			return err
		}
	}
	return nil
}
