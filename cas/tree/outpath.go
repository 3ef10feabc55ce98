package tree

import (
	"fmt"
	"path"
	"strings"
	"unicode/utf8"
)

func invalidOutput(p, reason string) error {
	return &InvalidError{Subject: "output path " + quote(p), Reason: reason}
}

// parseWorkingDirectory cleans a Command's working directory. Whether it exists
// is for Prepare to see.
func parseWorkingDirectory(dir string) (string, error) {
	invalid := func(reason string) (string, error) {
		return "", &InvalidError{Subject: "working directory " + quote(dir), Reason: reason}
	}
	if p := pathProblem(dir); p != "" {
		return invalid(p)
	}
	clean, ok := join("", dir)
	if !ok {
		return invalid("leads out of the input root")
	}
	for name := range strings.SplitSeq(clean, "/") {
		if clean != "" && len(name) > maxName {
			return invalid(fmt.Sprintf("has a name of more than %d bytes", maxName))
		}
	}
	return clean, nil
}

// outputPlace resolves an output path, which must be in the one normal form,
// from the input root. It resolves by the text alone: what is a symbolic link
// is not known before the action has run.
func outputPlace(workingDirectory, p string, want wanted) (string, error) {
	if p == "" {
		if want == wantFile {
			return "", invalidOutput(p, "is empty, so it can only be a directory")
		}
		return workingDirectory, nil
	}
	if problem := pathProblem(p); problem != "" {
		return "", invalidOutput(p, problem)
	}
	for name := range strings.SplitSeq(p, "/") {
		switch {
		case name == "":
			return "", invalidOutput(p, "has an empty segment: no slash at the end, no two in a row")
		case name == ".":
			return "", invalidOutput(p, `has a segment "."`)
		case len(name) > maxName:
			return "", invalidOutput(p, fmt.Sprintf("has a name of more than %d bytes", maxName))
		}
	}
	place, ok := join(workingDirectory, p)
	if !ok {
		return "", invalidOutput(p, "leads out of the input root")
	}
	if len(place) > maxPath {
		return "", invalidOutput(p, fmt.Sprintf("is longer than %d bytes from the input root", maxPath))
	}
	return place, nil
}

// pathProblem says what is wrong with any relative path, or "".
func pathProblem(p string) string {
	switch {
	case strings.HasPrefix(p, "/"):
		return "is absolute; it must be relative"
	case strings.Contains(p, "\x00"):
		return "contains NUL"
	case !utf8.ValidString(p):
		return "is not valid UTF-8"
	case len(p) > maxPath:
		return fmt.Sprintf("is longer than %d bytes", maxPath)
	}
	return ""
}

// join resolves p from base, both relative to the input root, without a leading
// or trailing slash; ok is false if it leads out, even if it came back in.
func join(base, p string) (joined string, ok bool) {
	depth := 0
	if base != "" {
		depth = strings.Count(base, "/") + 1
	}
	for name := range strings.SplitSeq(p, "/") {
		switch name {
		case "", ".":
		case "..":
			depth--
		default:
			depth++
		}
		if depth < 0 {
			return "", false
		}
	}
	joined = path.Join(base, p)
	if joined == "." {
		joined = ""
	}
	return joined, true
}
