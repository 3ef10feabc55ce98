package tree

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

const (
	// maxName is what Linux file systems take as one name.
	maxName = 255
	// maxPath is PATH_MAX without its NUL: no longer path can be named in a
	// system call, or be the target of a symbolic link.
	maxPath = 4095
)

// nameProblem says what is wrong with the name of one directory entry, or "".
func nameProblem(name string) string {
	switch {
	case name == "":
		return "is empty"
	case name == ".", name == "..":
		return "is not a name"
	case len(name) > maxName:
		return fmt.Sprintf("has %d bytes, at most %d are possible", len(name), maxName)
	case strings.ContainsAny(name, "/\x00"):
		return "contains a slash or NUL"
	case !utf8.ValidString(name):
		return "is not valid UTF-8"
	}
	return ""
}

// targetProblem says what is wrong with the target of a symbolic link, or "".
// Where it leads does not matter: nothing here follows it.
func targetProblem(target string) string {
	switch {
	case target == "":
		return "is empty"
	case len(target) > maxPath:
		return fmt.Sprintf("has %d bytes, at most %d are possible", len(target), maxPath)
	case strings.Contains(target, "\x00"):
		return "contains NUL"
	case !utf8.ValidString(target):
		return "is not valid UTF-8"
	}
	return ""
}
