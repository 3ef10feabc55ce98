package main

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// root is the repository's root, seen from this package's directory.
const root = "../../.."

// TestPageIsThatOfTheTests: a checklist that nobody regenerates says what was
// true once, and a number without an answer is a question that nobody asked.
func TestPageIsThatOfTheTests(t *testing.T) {
	list, cited, err := read(root)
	if err != nil {
		t.Fatal(err)
	}
	if len(list) < 10 || len(cited) < 200 {
		t.Fatalf("only %d sections, and %d numbers that tests cite", len(list), len(cited))
	}
	for _, problem := range problems(list, cited) {
		t.Error(problem)
	}
	have, err := os.ReadFile(filepath.Join(root, pagePath))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, page(list, cited)) {
		t.Errorf("%s is not what %s and the tests make of it: run make fmt", pagePath, listPath)
	}
}

func TestNumbersInComments(t *testing.T) {
	for comment, want := range map[string]string{
		"// REAPI F8, D38: a log of a run.":                      "F8 D38",
		"// REAPI A1-A3, B4-5.":                                  "A1 A2 A3 B4 B5",
		"// REAPI 0.4, 0.6-0.7, G1":                              "0.4 0.6 0.7 G1",
		"// Runs (REAPI F52, F54,\n// F55 and G35), as H1 wants": "F52 F54 F55 G35",
		"/* REAPI K1. */":                                        "K1",
		"// REAPI C1: see C2. REAPI C3":                          "C1 C3",
		"// REAPI leaves F51 open, and has no X12":               "",
		"// REAPI F5, OK":                                        "F5",
	} {
		got, err := numbersIn(comment)
		if err != nil {
			t.Errorf("%q: %v", comment, err)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%q: cites %q, want %q", comment, got, want)
		}
	}
	for _, comment := range []string{"// REAPI A5-A1", "// REAPI A1-B3"} {
		if got, err := numbersIn(comment); err == nil {
			t.Errorf("%q: cites %q, want an error", comment, got)
		}
	}
}

func TestCitationsHaveOwners(t *testing.T) {
	const source = `// Package p is tested. REAPI A1
package p

// REAPI A2: of the next test.
var cases = 1

// REAPI A3
func TestOne(t *testing.T) {
	// REAPI A4
	t.Run("first part", func(t *testing.T) {
		helper(t) // REAPI A5
	})
	// REAPI A6
	helper(t)
}

// REAPI A7
func helper(t *testing.T) {}

// REAPI A8
func nobodyCallsIt() {}

// REAPI A9
func BenchmarkTwo(b *testing.B) {}

// REAPI A10
func TestMain(m *testing.M) {}
`
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, "p_test.go", source, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	got := citations{}
	dir := &tests{fset: fset, dir: "some/p", files: []*ast.File{f}, names: map[*ast.File]string{f: "p_test.go"}}
	if err := dir.cite(got); err != nil {
		t.Fatal(err)
	}
	want := citations{
		"A1": {"some/p.p_test.go"}, "A2": {"some/p.TestOne"}, "A3": {"some/p.TestOne"},
		"A4": {"some/p.TestOne/first_part"}, "A5": {"some/p.TestOne/first_part"}, "A6": {"some/p.TestOne"},
		"A7": {"some/p.TestOne (helper)"}, "A8": {"some/p.p_test.go"},
		"A9": {"some/p.BenchmarkTwo"}, "A10": {"some/p.p_test.go"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestProblemsAreTold(t *testing.T) {
	list, err := parseList("# form\n[A. Some]\nA1  Does it\n\nA2  Does that\n  not tested: a switch only\nA3  Does this\nA4  Does more\n  not served: too much\nA5  Does all\n  partly: not the rest\nA6  Does none\n  partly: nor the rest\n")
	if err != nil {
		t.Fatal(err)
	}
	cited := citations{"A1": {"p.TestOne"}, "A4": {"p.TestTwo"}, "A5": {"p.TestFive"}, "A9": {"p.TestNine"}}
	got := strings.Join(problems(list, cited), "\n")
	for _, want := range []string{"A3 has neither", "A4 has a reason", "A6 is partly covered", "p.TestNine cites A9"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not told of:\n%s", want, got)
		}
	}
	if n := strings.Count(got, "\n") + 1; n != 4 {
		t.Errorf("%d problems, want 4:\n%s", n, got)
	}
}

func TestListIsChecked(t *testing.T) {
	for _, text := range []string{
		"A1  before any section",
		"[A]\nA1  once\nA1  twice",
		"[A]\nA1  " + strings.Repeat("x", maxTitle+1),
		"[A]\n  not tested: of no number",
		"[A]\nA1  one\n  not tested: why\n  not served: why else",
		"[A]\nA1  one\n  because",
		"[A]\nA1",
		"[A]\nZ1  of no section that there is",
	} {
		if list, err := parseList(text); err == nil {
			t.Errorf("%q was taken for %v", text, list)
		}
	}
}

func TestPageShowsTestsAndReasons(t *testing.T) {
	list, err := parseList("[A. Some]\nA1  Does a|b\nA2  Does that\n  not tested: a switch only\nA3  Does this\n  partly: not all\n")
	if err != nil {
		t.Fatal(err)
	}
	got := string(page(list, citations{"A1": {"p.A", "p.B", "p.C", "q.D"}, "A3": {"p.A"}}))
	for _, want := range []string{
		"| A. Some | 3 | 2 | 1 |", "2 of 3 are covered", "| A3 | Does this | `p.A`; *partly:* not all |",
		"| A1 | Does a\\|b | `p.A`, `p.B`, `p.C` and 1 more |", "| A2 | Does that | *not tested:* a switch only |",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
}
