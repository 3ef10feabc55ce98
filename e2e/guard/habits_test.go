package guard_test

import (
	"go/ast"
	"regexp"
	"testing"
)

// TestTestsNeitherSkipNorSleep: a test that skips proves nothing, and one that
// sleeps is slow on every machine and wrong on some: synctest has virtual time,
// and a real condition can be polled with a deadline.
func TestTestsNeitherSkipNorSleep(t *testing.T) {
	src := load(t)
	src.tests(func(f file) {
		ast.Inspect(f.ast, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			fn, ok := call.Fun.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			on, _ := fn.X.(*ast.Ident)
			switch name := fn.Sel.Name; {
			case name == "Skip" || name == "Skipf" || name == "SkipNow":
				t.Errorf("%s: a test must not skip: make test installs what it needs", src.at(n))
			case name == "Sleep" && on != nil && on.Name == "time" && !importsSynctest(f):
				t.Errorf("%s: a test must not sleep: use testing/synctest, or poll with a deadline", src.at(n))
			}
			return true
		})
	})
}

// importsSynctest reports whether time in f's tests can be virtual.
func importsSynctest(f file) bool {
	for _, spec := range f.ast.Imports {
		if spec.Path.Value == `"testing/synctest"` {
			return true
		}
	}
	return false
}

// TestCommentsLeaveNothingUndone: no marker of unfinished work, and no linter is
// silenced without a reason.
func TestCommentsLeaveNothingUndone(t *testing.T) {
	unfinished := regexp.MustCompile(`\b(TODO|FIXME|XXX|HACK)\b`)
	silenced := regexp.MustCompile(`^//(nolint|lint:(file-)?ignore)`)
	reasoned := regexp.MustCompile(`^//(nolint:\S+ // |lint:(file-)?ignore \S+ )\S+ \S+`)
	src := load(t)
	check := func(f file) {
		for _, group := range f.ast.Comments {
			for _, c := range group.List {
				if unfinished.MatchString(c.Text) {
					t.Errorf("%s: do it now, or open an issue: %s", src.at(c), c.Text)
				}
				if silenced.MatchString(c.Text) && !reasoned.MatchString(c.Text) {
					t.Errorf("%s: say why the linter is wrong here: %s", src.at(c), c.Text)
				}
			}
		}
	}
	src.code(check)
	src.tests(check)
}
