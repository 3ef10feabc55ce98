package guard_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// source is the parsed Go code of the repository.
type source struct {
	fset     *token.FileSet
	packages map[string][]file // by directory, relative to the repository's root
}

// file is one Go file.
type file struct {
	path string // relative to the repository's root
	text []byte
	ast  *ast.File
}

// root is the repository's root, seen from this package's directory.
const root = "../.."

// isTest reports whether the file is compiled for tests only.
func (f file) isTest() bool { return strings.HasSuffix(f.path, "_test.go") }

// isCode reports whether a person wrote the file for the programs.
func (f file) isCode() bool { return !f.isTest() && !ast.IsGenerated(f.ast) }

// load parses every Go file of the repository.
func load(t *testing.T) source {
	t.Helper()
	src := source{fset: token.NewFileSet(), packages: map[string][]file{}}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "workspace" || d.Name() == "testdata") {
			return filepath.SkipDir
		}
		if d.IsDir() || filepath.Ext(path) != ".go" {
			return nil
		}
		return src.parse(path)
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(src.packages) < 10 {
		t.Fatalf("only %d packages found below %s", len(src.packages), root)
	}
	return src
}

// parse adds the file at path, which lies below root.
func (s source) parse(path string) error {
	name, err := filepath.Rel(root, path)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	parsed, err := parser.ParseFile(s.fset, name, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	dir := filepath.Dir(name)
	s.packages[dir] = append(s.packages[dir], file{path: name, text: text, ast: parsed})
	return nil
}

// code calls visit for every file that a person wrote for the programs.
func (s source) code(visit func(file)) {
	for _, files := range s.packages {
		for _, f := range files {
			if f.isCode() {
				visit(f)
			}
		}
	}
}

// tests calls visit for every test file.
func (s source) tests(visit func(file)) {
	for _, files := range s.packages {
		for _, f := range files {
			if f.isTest() {
				visit(f)
			}
		}
	}
}

// at is the place of n, for a person to click on.
func (s source) at(n ast.Node) token.Position { return s.fset.Position(n.Pos()) }

// lines is how many lines n covers.
func (s source) lines(n ast.Node) int {
	return s.fset.Position(n.End()).Line - s.fset.Position(n.Pos()).Line + 1
}
