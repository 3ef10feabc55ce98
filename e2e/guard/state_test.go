package guard_test

import (
	"go/ast"
	"go/token"
	"strings"
	"testing"
)

// TestNoPackageLevelState: what a program does must follow from what main wires
// together, so nothing runs before main and no variable is shared by accident.
func TestNoPackageLevelState(t *testing.T) {
	src := load(t)
	src.code(func(f file) {
		for _, decl := range f.ast.Decls {
			switch decl := decl.(type) {
			case *ast.FuncDecl:
				if decl.Name.Name == "init" && decl.Recv == nil {
					t.Errorf("%s: init functions are not allowed: do it in a constructor", src.at(decl))
				}
			case *ast.GenDecl:
				checkVars(t, src, decl)
			}
		}
	})
}

// checkVars reports the variables of decl, unless they cannot change: compile-time
// assertions, error values, compiled regular expressions and embedded files.
func checkVars(t *testing.T, src source, decl *ast.GenDecl) {
	t.Helper()
	if decl.Tok != token.VAR || hasEmbed(decl.Doc) {
		return
	}
	for _, spec := range decl.Specs {
		spec := spec.(*ast.ValueSpec)
		if hasEmbed(spec.Doc) {
			continue
		}
		for i, name := range spec.Names {
			if name.Name == "_" || i < len(spec.Values) && isConstant(spec.Values[i]) {
				continue
			}
			t.Errorf("%s: package-level variable %s: make it a constant, a function or a field", src.at(name), name.Name)
		}
	}
}

// isConstant reports whether the value is a call that makes something that never changes.
func isConstant(value ast.Expr) bool {
	call, ok := value.(*ast.CallExpr)
	if !ok {
		return false
	}
	fn, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	pkg, ok := fn.X.(*ast.Ident)
	if !ok {
		return false
	}
	switch pkg.Name + "." + fn.Sel.Name {
	case "errors.New", "fmt.Errorf", "regexp.MustCompile":
		return true
	}
	return false
}

// hasEmbed reports whether the comment is a go:embed directive.
func hasEmbed(doc *ast.CommentGroup) bool {
	if doc == nil {
		return false
	}
	for _, c := range doc.List {
		if strings.HasPrefix(c.Text, "//go:embed ") {
			return true
		}
	}
	return false
}
