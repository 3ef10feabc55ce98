package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
)

// citations is, by number, the tests that cite it.
type citations map[string][]string

// tests is the parsed test files of one directory.
type tests struct {
	fset  *token.FileSet
	dir   string // below the repository's root
	files []*ast.File
	names map[*ast.File]string
}

// citationsBelow reads every test file below root. Only what is compiled for
// tests counts: a comment elsewhere says why the code is so, not that it works.
func citationsBelow(root string) (citations, error) {
	dirs, fset := map[string]*tests{}, token.NewFileSet()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "workspace" || d.Name() == "testdata") {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		parsed, err := parser.ParseFile(fset, path, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		dir, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		if dirs[dir] == nil {
			dirs[dir] = &tests{fset: fset, dir: filepath.ToSlash(dir), names: map[*ast.File]string{}}
		}
		dirs[dir].files = append(dirs[dir].files, parsed)
		dirs[dir].names[parsed] = filepath.Base(path)
		return nil
	})
	if err != nil {
		return nil, err
	}
	all := citations{}
	for _, dir := range slices.Sorted(maps.Keys(dirs)) {
		if err := dirs[dir].cite(all); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// cite adds what the comments of the directory cite.
func (t *tests) cite(all citations) error {
	users := t.users()
	for _, f := range t.files {
		for _, group := range f.Comments {
			numbers, err := numbersIn(text(group))
			if err != nil {
				return fmt.Errorf("%s: %w", t.fset.Position(group.Pos()), err)
			}
			all.add(numbers, t.dir+"."+t.owner(f, group, users))
		}
	}
	return nil
}

// add notes that test cites each of numbers.
func (c citations) add(numbers []string, test string) {
	for _, n := range numbers {
		if !slices.Contains(c[n], test) {
			c[n] = append(c[n], test)
		}
	}
}

// text is the comment as it is written, markers included.
func text(group *ast.CommentGroup) string {
	var lines []string
	for _, c := range group.List {
		lines = append(lines, c.Text)
	}
	return strings.Join(lines, "\n")
}

// owner is whose comment that is: of the function around it or, outside of all,
// of the next one. A function that tests call is named after the first that does.
func (t *tests) owner(f *ast.File, group *ast.CommentGroup, users map[string]string) string {
	for _, decl := range f.Decls {
		fn, ok := decl.(*ast.FuncDecl)
		if !ok || fn.End() < group.Pos() || group == f.Doc {
			continue
		}
		switch name := fn.Name.Name; {
		case isTest(name):
			return name + t.subtest(fn, group)
		case users[name] != "":
			return users[name] + " (" + name + ")"
		case group.Pos() > fn.Pos() || group == fn.Doc:
			return t.names[f]
		}
	}
	return t.names[f]
}

// isTest reports whether the go command runs the function of that name.
func isTest(name string) bool {
	for _, kind := range []string{"Test", "Fuzz", "Benchmark"} {
		if rest, ok := strings.CutPrefix(name, kind); ok && name != "TestMain" && (rest == "" || rest[0] < 'a' || rest[0] > 'z') {
			return true
		}
	}
	return false
}

// subtest is the name of the innermost t.Run that the comment lies in or stands
// above, as far as names are written out, with a slash before each.
func (t *tests) subtest(fn *ast.FuncDecl, group *ast.CommentGroup) string {
	path := ""
	ast.Inspect(fn, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || len(call.Args) != 2 {
			return true
		}
		run, ok := call.Fun.(*ast.SelectorExpr)
		name, literal := call.Args[0].(*ast.BasicLit)
		if !ok || !literal || run.Sel.Name != "Run" {
			return true
		}
		above := t.fset.Position(group.End()).Line+1 == t.fset.Position(call.Pos()).Line
		if above || call.Pos() < group.Pos() && group.Pos() < call.End() {
			path += "/" + strings.ReplaceAll(strings.Trim(name.Value, "\"`"), " ", "_")
		}
		return true
	})
	return path
}

// users is, by the name of anything declared in the directory, the first test
// that reaches it. Names alone count, without types: two methods of one name are one.
func (t *tests) users() map[string]string {
	mentions := map[string][]string{}
	var names []string
	for _, f := range t.files {
		for _, decl := range f.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok {
				continue
			}
			name := fn.Name.Name
			if isTest(name) {
				names = append(names, name)
			}
			mentions[name] = append(mentions[name], mentionedIn(fn)...)
		}
	}
	users := map[string]string{}
	for _, name := range names {
		reach(name, name, mentions, users)
	}
	return users
}

// mentionedIn is each name in the function.
func mentionedIn(fn *ast.FuncDecl) []string {
	var all []string
	ast.Inspect(fn, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok {
			all = append(all, id.Name)
		}
		return true
	})
	return all
}

// reach notes test as the user of name and of all that name mentions.
func reach(test, name string, mentions map[string][]string, users map[string]string) {
	if users[name] != "" {
		return
	}
	users[name] = test
	for _, mentioned := range mentions[name] {
		reach(test, mentioned, mentions, users)
	}
}
