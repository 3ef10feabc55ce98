package guard_test

import (
	"bytes"
	"go/ast"
	"slices"
	"testing"
)

// The budgets of size: what does not fit wants to be two things.
const (
	fileLines        = 400
	medianFileLines  = 120
	functionLines    = 50
	blockDepth       = 3
	parameters       = 4 // besides the context
	interfaceMethods = 3 // embedded interfaces do not count
)

func TestFilesFitTheBudget(t *testing.T) {
	var all []int
	load(t).code(func(f file) {
		lines := bytes.Count(f.text, []byte("\n"))
		all = append(all, lines)
		if lines > fileLines {
			t.Errorf("%s has %d lines, the budget is %d: one main type per file", f.path, lines, fileLines)
		}
	})
	slices.Sort(all)
	if median := all[len(all)/2]; median > medianFileLines {
		t.Errorf("half of the files have more than %d lines, the budget is %d", median, medianFileLines)
	}
}

func TestFunctionsFitTheBudget(t *testing.T) {
	src := load(t)
	src.code(func(f file) {
		for _, decl := range f.ast.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok || fn.Body == nil {
				continue
			}
			if lines := src.lines(fn); lines > functionLines {
				t.Errorf("%s: %s has %d lines, the budget is %d", src.at(fn), fn.Name.Name, lines, functionLines)
			}
			if depth := deepest(fn.Body); depth > blockDepth {
				t.Errorf("%s: %s nests blocks %d deep, the budget is %d", src.at(fn), fn.Name.Name, depth, blockDepth)
			}
			if n := countParameters(fn.Type); n > parameters {
				t.Errorf("%s: %s has %d parameters, the budget is %d besides the context: use a struct", src.at(fn), fn.Name.Name, n, parameters)
			}
		}
	})
}

func TestInterfacesFitTheBudget(t *testing.T) {
	src := load(t)
	src.code(func(f file) {
		ast.Inspect(f.ast, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			face, ok := spec.Type.(*ast.InterfaceType)
			if !ok {
				return true
			}
			methods := 0
			for _, m := range face.Methods.List {
				methods += len(m.Names)
			}
			if methods > interfaceMethods {
				t.Errorf("%s: %s has %d methods, the budget is %d: make a bigger one from small ones", src.at(spec), spec.Name.Name, methods, interfaceMethods)
			}
			return true
		})
	})
}

// countParameters counts without a context in front.
func countParameters(fn *ast.FuncType) int {
	n := 0
	for i, field := range fn.Params.List {
		sel, ok := field.Type.(*ast.SelectorExpr)
		if i == 0 && ok && sel.Sel.Name == "Context" {
			continue
		}
		n += max(1, len(field.Names))
	}
	return n
}

// deepest is how many blocks the innermost statement of body lies in. An else
// is as deep as its if, and a function literal begins again.
func deepest(body ast.Node) int {
	depth := 0
	ast.Inspect(body, func(n ast.Node) bool {
		if n == body {
			return true
		}
		inner := 0
		switch n := n.(type) {
		case *ast.FuncLit:
			inner = deepest(n.Body)
		case *ast.IfStmt:
			inner = 1 + deepest(n.Body)
			if n.Else != nil {
				inner = max(inner, deepestElse(n.Else))
			}
		case *ast.ForStmt:
			inner = 1 + deepest(n.Body)
		case *ast.RangeStmt:
			inner = 1 + deepest(n.Body)
		case *ast.SwitchStmt:
			inner = 1 + deepest(n.Body)
		case *ast.TypeSwitchStmt:
			inner = 1 + deepest(n.Body)
		case *ast.SelectStmt:
			inner = 1 + deepest(n.Body)
		default:
			return true
		}
		depth = max(depth, inner)
		return false
	})
	return depth
}

// deepestElse is deepest for what follows an else: a block or the next if.
func deepestElse(n ast.Stmt) int {
	if block, ok := n.(*ast.BlockStmt); ok {
		return 1 + deepest(block)
	}
	return deepest(&ast.BlockStmt{List: []ast.Stmt{n}})
}
