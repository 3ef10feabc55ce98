package guard_test

import (
	"regexp"
	"strings"
	"testing"
)

// TestPackagesSayWhatTheyAreFor: a reader who opens a package learns first what it
// owns, what it never does, and what always holds.
func TestPackagesSayWhatTheyAreFor(t *testing.T) {
	src := load(t)
	for dir, files := range src.packages {
		docs, name := packageDoc(files)
		if name == "" {
			continue // tests alone, without a package of their own
		}
		if len(docs) != 1 {
			t.Errorf("%s: %d package comments, want one, in doc.go (main.go of a program)", dir, len(docs))
			continue
		}
		if name == "main" {
			continue
		}
		for _, part := range []string{`\bowns\b`, `\bnever\b`, `(?i)\binvariants?\b`} {
			if !regexp.MustCompile(part).MatchString(docs[0]) {
				t.Errorf("%s: the package comment does not match %q; it says what the package owns, what it never does, and its invariants", dir, part)
			}
		}
	}
}

// packageDoc is the package comments of the files, and the package's name.
// Generated files copy comments from elsewhere and do not count.
func packageDoc(files []file) (docs []string, name string) {
	for _, f := range files {
		if f.isTest() {
			continue
		}
		name = f.ast.Name.Name
		if f.isCode() && f.ast.Doc != nil {
			docs = append(docs, strings.TrimSpace(f.ast.Doc.Text()))
		}
	}
	return docs, name
}
