package guard_test

import (
	"go/ast"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestMessagesInTroubleshootingExist: who looks for a message there has it word for
// word, so that each must be one that the programs print.
func TestMessagesInTroubleshootingExist(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(root, "docs/troubleshooting.md"))
	if err != nil {
		t.Fatal(err)
	}
	var literals []string
	src := load(t)
	src.code(func(f file) {
		ast.Inspect(f.ast, func(n ast.Node) bool {
			expr, ok := n.(ast.Expr)
			if !ok {
				return true
			}
			text, ok := constantText(expr)
			if ok {
				literals = append(literals, text)
			}
			return !ok
		})
	})
	messages := regexp.MustCompile("(?m)^### `(.+)`$").FindAllSubmatch(page, -1)
	if len(messages) < 15 {
		t.Fatalf("only %d messages are in the page", len(messages))
	}
	for _, m := range messages {
		if !anyHas(literals, strings.Split(string(m[1]), "…")) {
			t.Errorf("docs/troubleshooting.md: nothing prints %q", m[1])
		}
	}
}

// constantText is the text of a literal, or of several that are added up.
func constantText(expr ast.Expr) (string, bool) {
	switch e := expr.(type) {
	case *ast.BasicLit:
		if e.Kind != token.STRING {
			return "", false
		}
		text, err := strconv.Unquote(e.Value)
		return text, err == nil
	case *ast.BinaryExpr:
		left, ok := constantText(e.X)
		right, alsoOK := constantText(e.Y)
		return left + right, ok && alsoOK && e.Op == token.ADD
	}
	return "", false
}

// anyHas reports whether one of the texts has all parts, in their order.
func anyHas(texts, parts []string) bool {
	for _, text := range texts {
		found := true
		for _, part := range parts {
			var rest string
			_, rest, found = strings.Cut(text, part)
			if !found {
				break
			}
			text = rest
		}
		if found {
			return true
		}
	}
	return false
}
