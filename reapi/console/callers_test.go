package console_test

import (
	"context"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/reapi/access"
	"github.com/hearth-build/hearth/reapi/console"
)

// byToken knows principals by their names, which are their tokens.
type byToken map[string]*access.Principal

func (b byToken) Authenticate(_ context.Context, c access.Credentials) (*access.Principal, error) {
	if p, ok := b[c.Token]; ok {
		return p, nil
	}
	return nil, access.ErrUnknown
}

var _ access.Authenticator = byToken{}

func askAs(t testing.TB, url, header string) (int, string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if header != "" {
		req.Header.Set("Authorization", header)
	}
	return do(t, req)
}

// Every page, by callers without credentials, with wrong ones, with too few rights
// and of another tenant: nobody sees what is not theirs, or that it is there.
func TestCallersOfPages(t *testing.T) {
	all := func(in string) map[string]access.Roles { return map[string]access.Roles{in: access.All} }
	who := byToken{
		"operator": {Grants: all(access.AnyInstance)},
		"reader":   {Grants: map[string]access.Roles{"team": access.Read}},
		"stranger": {Grants: all("elsewhere")},
		"tenant":   {Tenant: "b", Grants: all(access.AnyInstance)},
	}
	ours, theirs := cas.SHA256.Sum([]byte("ours")), cas.SHA256.Sum([]byte("theirs"))
	server := serveOptions(t, console.Options{Source: fixed{Version: "1"}, Runners: &pool{}, Access: who, Metrics: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), Actions: ended{
		{Action: ours, Instance: "team", Status: "OK", Invocation: "ours"},
		{Action: theirs, Instance: "team", Tenant: "b", Status: "OK", Invocation: "theirs"},
	}})
	blob := "/blobs/sha256/" + ours.Name() + "?instance=team"
	pages := []string{
		"/healthz", "/", "/status.json", "/actions", "/actions/" + ours.Hash(), "/actions/" + theirs.Hash(), "/none", "/runners", "/runners/r-1", "/audit",
		"/store", "/invocations", "/invocations/ours", "/invocations/theirs", "/operations/x/stdout", blob, "/inputs" + blob[6:], "/trees" + blob[6:], "/assets/style.css", "/metrics",
	}
	for caller, codes := range map[string][]int{
		"":         {200, 401, 401, 401, 401, 401, 401, 401, 401, 401, 401, 401, 401, 401, 401, 401, 401, 401, 401, 401},
		"wrong":    {200, 401, 401, 401, 401, 401, 401, 401, 401, 401, 401, 401, 401, 401, 401, 401, 401, 401, 401, 401},
		"operator": {200, 200, 200, 200, 200, 200, 404, 200, 404, 404, 404, 200, 200, 200, 404, 404, 404, 404, 200, 200},
		"reader":   {200, 403, 403, 200, 200, 404, 404, 403, 403, 403, 403, 200, 200, 404, 404, 404, 404, 404, 200, 403},
		"stranger": {200, 403, 403, 200, 404, 404, 404, 403, 403, 403, 403, 200, 404, 404, 404, 404, 404, 404, 200, 403},
		"tenant":   {200, 403, 403, 200, 404, 200, 404, 403, 403, 403, 403, 200, 404, 200, 404, 404, 404, 404, 200, 403},
	} {
		header := ""
		if caller != "" {
			header = "Bearer " + caller
		}
		for i, page := range pages {
			code, text := askAs(t, server.URL+page, header)
			if code != codes[i] {
				t.Errorf("%s answers %d to %q, want %d: %s", page, code, caller, codes[i], text)
			}
			if code == http.StatusUnauthorized && strings.Contains(text, ours.Hash()) {
				t.Errorf("%s tells %q of what is there: %s", page, caller, text)
			}
		}
	}
	for caller, want := range map[string]int{"operator": 2, "reader": 1, "stranger": 0, "tenant": 1} {
		if _, text := askAs(t, server.URL+"/actions", "Bearer "+caller); strings.Count(text, `"digest":`) != want {
			t.Errorf("%s sees %s, want %d actions", caller, text, want)
		}
	}
}

// A browser sends what a person types as a password.
func TestBrowsersAreAsked(t *testing.T) {
	handler, err := console.Handler(console.Options{Source: fixed{}, Actions: ended(nil), Runners: &pool{}, Access: byToken{"secret": access.Everybody()}})
	if err != nil {
		t.Fatal(err)
	}
	req := httptest.NewRequest(http.MethodGet, "/", http.NoBody)
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, req)
	if h := recorder.Header().Get("WWW-Authenticate"); recorder.Code != http.StatusUnauthorized || !strings.HasPrefix(h, "Basic ") {
		t.Errorf("%d, %q", recorder.Code, h)
	}
	req.SetBasicAuth("anything", "secret")
	recorder = httptest.NewRecorder()
	if handler.ServeHTTP(recorder, req); recorder.Code != http.StatusOK {
		t.Errorf("with a password: %d", recorder.Code)
	}
}

// A certificate that was not verified says nothing.
func TestCertificatesOfPages(t *testing.T) {
	var shown access.Credentials
	handler, err := console.Handler(console.Options{Source: fixed{}, Actions: ended(nil), Runners: &pool{}, Access: remembering{&shown}})
	if err != nil {
		t.Fatal(err)
	}
	req := httptest.NewRequest(http.MethodGet, "https://here/", http.NoBody) // which sets TLS
	cert := &x509.Certificate{}
	req.TLS.PeerCertificates = []*x509.Certificate{cert}
	if handler.ServeHTTP(httptest.NewRecorder(), req); shown.Certificate != nil {
		t.Error("an unverified certificate counts")
	}
	req.TLS.VerifiedChains = [][]*x509.Certificate{{cert}}
	if handler.ServeHTTP(httptest.NewRecorder(), req); shown.Certificate != cert {
		t.Error("a verified certificate does not count")
	}
}

type remembering struct{ shown *access.Credentials }

func (r remembering) Authenticate(_ context.Context, c access.Credentials) (*access.Principal, error) {
	*r.shown = c
	return access.Everybody(), nil
}
