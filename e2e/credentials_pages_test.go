package e2e_test

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"html"
	"maps"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
)

// REAPI F59, I3, I4, I5: every call and every page of a server, as its flags make it, by
// every kind of caller. Who may not see something cannot tell whether it is there.
func TestEveryCaller(t *testing.T) {
	s := newSecured(t)
	t.Run("pages", s.checkPages)
	t.Run("links", s.checkLinks)
	t.Run("orders", s.checkOrders)
	t.Run("calls", s.checkCalls)
}

// site is an URL of the console, and how it is answered by caller.
type site struct {
	pattern string
	at      func(x *subject) string
	// of the owner and of its reader, and so on.
	operator, reader, elsewhere, other int
}

func (p *site) known() map[string]int {
	return map[string]int{"operator": p.operator, "owner": p.reader, "reader": p.reader, "elsewhere": p.elsewhere, "other": p.other}
}

// sites are all there are.
func sites() []site {
	plain := func(path string) func(*subject) string { return func(*subject) string { return path } }
	blob := func(kind, end string, d func(*subject) *repb.Digest) func(*subject) string {
		return func(x *subject) string {
			return fmt.Sprintf("/%s/sha256/%s/%d%s?tenant=a&instance=", kind, d(x).GetHash(), d(x).GetSizeBytes(), end)
		}
	}
	return []site{
		{"/", plain("/none"), 404, 404, 404, 404},
		{"GET /{$}", plain("/"), 200, 403, 403, 403},
		{"GET /status.json", plain("/status.json"), 200, 403, 403, 403},
		{"GET /runners", plain("/runners"), 200, 403, 403, 403},
		{"GET /runners/{id}", func(x *subject) string { return "/runners/" + x.runner }, 200, 403, 403, 403},
		{"GET /audit", plain("/audit"), 200, 403, 403, 403},
		{"GET /store", plain("/store"), 200, 403, 403, 403},
		{"GET /metrics", plain("/metrics"), 200, 403, 403, 403},
		{"GET /assets/", plain("/assets/style.css"), 200, 200, 200, 200},
		{"GET /actions", plain("/actions"), 200, 200, 200, 200},
		{"GET /actions", func(x *subject) string { return "/actions?action=" + x.ended.GetHash() }, 200, 200, 200, 200},
		{"GET /actions", func(x *subject) string { return "/actions?runner=" + x.runner }, 200, 200, 200, 200},
		{"GET /actions/{digest...}", func(x *subject) string { return "/actions/" + x.ended.GetHash() }, 200, 200, 404, 404},
		{"GET /invocations", plain("/invocations"), 200, 200, 200, 200},
		{"GET /invocations/{id...}", func(x *subject) string { return "/invocations/" + x.invocation }, 200, 200, 404, 404},
		{"GET /operations/{id}/{stream}", func(x *subject) string { return "/" + x.operation + "/stdout" }, 200, 200, 404, 404},
		{"GET /blobs/{function}/{hash}/{size}", blob("blobs", "", func(x *subject) *repb.Digest { return x.blob }), 200, 200, 404, 404},
		{"GET /blobs/{function}/{hash}/{size}", func(x *subject) string { // of the caller's own tenant
			return strings.ReplaceAll(blob("blobs", "", func(x *subject) *repb.Digest { return x.blob })(x), "tenant=a&", "")
		}, 404, 200, 404, 404},
		{"GET /inputs/{function}/{hash}/{size}/{path...}", blob("inputs", "/", func(x *subject) *repb.Digest { return x.root }), 200, 200, 404, 404},
		{"GET /trees/{function}/{hash}/{size}/{path...}", blob("trees", "/", func(x *subject) *repb.Digest { return x.tree }), 200, 200, 404, 404},
	}
}

// orders are those of operators, which end what they are about, sooner or later.
func orders() []site {
	return []site{
		{"POST /runners/{id}/drain", func(x *subject) string { return "/runners/" + x.busy + "/drain" }, 204, 403, 403, 403},
		{"POST /runners/{id}/remove", func(x *subject) string { return "/runners/" + x.runner + "/remove" }, 204, 403, 403, 403},
	}
}

// openPattern is for everybody.
const openPattern = "GET /healthz"

// patterns are all URLs that the console has, as its code says.
func patterns(t *testing.T) []string {
	t.Helper()
	all, with := map[string]bool{}, regexp.MustCompile(`^[A-Z]+ /`)
	take := func(e ast.Expr, any bool) {
		if literal, ok := e.(*ast.BasicLit); ok && literal.Kind == token.STRING {
			text, err := strconv.Unquote(literal.Value)
			if err != nil {
				t.Fatal(err)
			}
			all[text] = all[text] || any || with.MatchString(text)
		}
	}
	for _, dir := range []string{"../reapi/console", "../cmd/hearth"} {
		files, err := filepath.Glob(dir + "/*.go")
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(file, func(n ast.Node) bool {
				if call, ok := n.(*ast.CallExpr); ok && len(call.Args) == 2 {
					if f, ok := call.Fun.(*ast.SelectorExpr); ok && (f.Sel.Name == "Handle" || f.Sel.Name == "HandleFunc") {
						take(call.Args[0], true)
					}
				}
				if e, ok := n.(ast.Expr); ok {
					take(e, false)
				}
				return true
			})
		}
	}
	maps.DeleteFunc(all, func(_ string, is bool) bool { return !is })
	if len(all) < 15 {
		t.Fatalf("only %d patterns were found", len(all))
	}
	return slices.Sorted(maps.Keys(all))
}

func (s *secured) checkPages(t *testing.T) {
	for _, pattern := range patterns(t) {
		is := func(p site) bool { return p.pattern == pattern }
		if pattern != openPattern && !slices.ContainsFunc(sites(), is) && !slices.ContainsFunc(orders(), is) {
			t.Errorf("%s has no row in the table", pattern)
		}
	}
	for _, who := range append(unknownCallers(), "reader") {
		if code, _ := s.get(who, "/healthz"); code != http.StatusOK {
			t.Errorf("/healthz by %s: %d", who, code)
		}
	}
	for _, p := range sites() {
		for _, accept := range []string{"application/json", "text/html", "text/event-stream"} {
			s.checkSite(t, http.MethodGet, accept, &p)
		}
	}
}

// checkOrders gives orders, first as those who may not.
func (s *secured) checkOrders(t *testing.T) {
	for _, p := range orders() {
		for _, accept := range []string{"application/json", "text/html"} {
			refused := p
			refused.operator = 0
			s.checkSite(t, http.MethodPost, accept, &refused)
		}
		for about, want := range map[*subject]int{&s.absent: http.StatusNotFound, &s.theirs: p.operator} {
			if code, text := s.request("operator", http.MethodPost, p.at(about), "application/json"); code != want {
				t.Errorf("%s by an operator: %d, want %d: %s", p.at(about), code, want, text)
			}
		}
	}
}

func (s *secured) checkSite(t *testing.T, method, accept string, p *site) {
	for _, who := range unknownCallers() {
		s.checkRequest(t, request{who, method, accept, p}, http.StatusUnauthorized)
	}
	for who, want := range p.known() {
		if want != 0 {
			s.checkRequest(t, request{who, method, accept, p}, want)
		}
	}
}

type request struct {
	who, method, accept string
	site                *site
}

// withoutTimes leaves out the times at which pages were made.
func withoutTimes(page []byte) []byte {
	return regexp.MustCompile(`<time .*?</time>`).ReplaceAll(page, nil)
}

// checkRequest asks about what is there, and, as who must not know that, about what is not.
func (s *secured) checkRequest(t *testing.T, r request, want int) {
	url := r.site.at(&s.theirs)
	what := fmt.Sprintf("%s %s (%s) by %s", r.method, url, r.accept, r.who)
	code, theirs := s.request(r.who, r.method, url, r.accept)
	if code != want {
		t.Errorf("%s: %d, want %d: %.300s", what, code, want, theirs)
	}
	if r.who == "owner" || r.who == "reader" || r.who == "operator" {
		return
	}
	_, absent := s.request(r.who, r.method, r.site.at(&s.absent), r.accept)
	theirs, absent = withoutTimes(theirs), withoutTimes(absent)
	if !s.same(theirs, absent) {
		t.Errorf("%s tells what is there: %s, and of what is not there %s", what, theirs, absent)
	}
	for _, name := range s.theirs.names() {
		if bytes.Contains(theirs, []byte(name)) && !strings.Contains(url, name) {
			t.Errorf("%s tells of %s: %s", what, name, theirs)
		}
	}
}

// checkLinks follows all links that there are for callers: they lead somewhere.
func (s *secured) checkLinks(t *testing.T) {
	link := regexp.MustCompile(`(?:href|action)="(/[^"]*)"`)
	for who, runners := range map[string]bool{"operator": true, "owner": false, "reader": false, "elsewhere": false, "other": false} {
		seen, todo := map[string]bool{}, []string{"/actions", "/invocations", "/actions/" + s.theirs.action.GetHash()}
		if who == "elsewhere" || who == "other" {
			todo = todo[:2]
		}
		for len(todo) > 0 {
			url := todo[0]
			todo = todo[1:]
			if seen[url] || strings.HasSuffix(url, "/drain") || strings.HasSuffix(url, "/remove") {
				continue
			}
			seen[url] = true
			code, text := s.request(who, http.MethodGet, url, "text/html")
			if code != http.StatusOK {
				t.Errorf("%s, of which there is a link for %s, answers %d: %.300s", url, who, code, text)
			}
			for _, found := range link.FindAllSubmatch(text, -1) {
				todo = append(todo, html.UnescapeString(string(found[1])))
			}
		}
		if seen["/runners/"+s.theirs.runner] != runners || seen["/runners/"+s.theirs.busy] != runners || len(seen) < 6 {
			t.Errorf("%s got to %q", who, slices.Sorted(maps.Keys(seen)))
		}
	}
}
