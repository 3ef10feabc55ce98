package guard_test

import (
	"bufio"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestEveryPackageIsInTheImportTable: .depguard.yaml says which package may import
// which; a new package must be given its row there. The repository's root and
// cmd/hearth, which may import all, have none.
func TestEveryPackageIsInTheImportTable(t *testing.T) {
	patterns := tablePatterns(t)
	for dir := range load(t).packages {
		if dir == "." || dir == "cmd/hearth" {
			continue
		}
		if !anyMatches(patterns, path.Join("/hearth", filepath.ToSlash(dir), "x.go")) {
			t.Errorf("%s is in no row of .depguard.yaml: say there what it may import, and why", dir)
		}
	}
}

// tablePatterns is the file patterns of the rows that name directories.
func tablePatterns(t *testing.T) []string {
	t.Helper()
	f, err := os.Open(filepath.Join(root, ".depguard.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var patterns []string
	quoted := regexp.MustCompile(`"\*\*(/[^"]+/\*\.go)"`)
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		// A row that names files by exception is not about one package.
		line, ok := strings.CutPrefix(strings.TrimSpace(lines.Text()), "files:")
		if !ok || strings.Contains(line, "!") {
			continue
		}
		for _, match := range quoted.FindAllStringSubmatch(line, -1) {
			patterns = append(patterns, expand(match[1])...)
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	if len(patterns) < 10 {
		t.Fatalf("only %d patterns found in .depguard.yaml: %q", len(patterns), patterns)
	}
	return patterns
}

// expand replaces one {a,b,c} of the pattern by each of its words.
func expand(pattern string) []string {
	before, rest, found := strings.Cut(pattern, "{")
	words, after, closed := strings.Cut(rest, "}")
	if !found || !closed {
		return []string{pattern}
	}
	var all []string
	for word := range strings.SplitSeq(words, ",") {
		all = append(all, before+word+after)
	}
	return all
}

// anyMatches reports whether a pattern matches the end of name, in whole segments.
func anyMatches(patterns []string, name string) bool {
	segments := strings.Split(name, "/")
	for _, pattern := range patterns {
		wanted := strings.Split(pattern, "/")[1:]
		if len(wanted) >= len(segments) {
			continue
		}
		tail := strings.Join(segments[len(segments)-len(wanted):], "/")
		if ok, err := path.Match(strings.Join(wanted, "/"), tail); err == nil && ok {
			return true
		}
	}
	return false
}

// TestBuildTagsAgree: make, Bazel and gazelle must compile the same files.
func TestBuildTagsAgree(t *testing.T) {
	tags := regexp.MustCompile(`tags[= ](remote,[a-z_,]+)`)
	found := map[string]string{}
	for _, name := range []string{"Makefile", ".bazelrc", "BUILD.bazel", "MODULE.bazel"} {
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		match := tags.FindSubmatch(text)
		if match == nil {
			t.Fatalf("%s names no build tags", name)
		}
		found[name] = string(match[1])
		if found[name] != found["Makefile"] {
			t.Errorf("the build tags of %s are %s, those of Makefile %s", name, found[name], found["Makefile"])
		}
	}
}
