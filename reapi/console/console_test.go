package console_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/hearth-build/hearth/reapi/access"
	"github.com/hearth-build/hearth/reapi/console"
	"github.com/hearth-build/hearth/reapi/execution"
	"github.com/hearth-build/hearth/runners"
)

type fixed console.Status

func (f fixed) Status() console.Status { return console.Status(f) }

func serve(t *testing.T, s console.Status, all ...runners.RunnerInfo) *httptest.Server {
	t.Helper()
	return serveOptions(t, console.Options{Source: fixed(s), Actions: ended(nil), Runners: &pool{all: all}, Access: access.NewOpen()})
}

func serveOptions(t *testing.T, o console.Options) *httptest.Server {
	t.Helper()
	handler, err := console.Handler(o)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	return do(t, req)
}

// see is get for a browser.
func see(t *testing.T, url string) (int, string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "text/html,application/xhtml+xml,*/*;q=0.8")
	return do(t, req)
}

func do(t testing.TB, req *http.Request) (int, string) {
	t.Helper()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// REAPI I14: what clients sent is escaped.
func TestPages(t *testing.T) {
	status := console.Status{
		Version: "1", Endpoint: "grpc://here", Load: execution.Load{Running: 3},
	}
	server := serve(t, status, runners.RunnerInfo{ID: "hearth-1", State: runners.Idle, Key: "<script>alert(1)</script>", Runs: 12, Age: time.Minute})
	code, page := see(t, server.URL+"/")
	if code != http.StatusOK || !strings.Contains(page, "hearth-1") || strings.Contains(page, "<script>") {
		t.Errorf("%d: %s", code, page)
	}
	if _, text := get(t, server.URL+"/"); !strings.HasPrefix(text, `{"version":"1"`) {
		t.Errorf("for programs: %s", text)
	}
	code, text := get(t, server.URL+"/status.json")
	var got console.Status
	if err := json.Unmarshal([]byte(text), &got); err != nil || code != http.StatusOK || len(got.Runners) != 1 || got.Runners[0].State != "idle" || got.Runners[0].Runs != 12 || got.Load.Running != 3 {
		t.Errorf("%d: %s (%v)", code, text, err)
	}
	if code, text = get(t, server.URL+"/healthz"); code != http.StatusOK || text != "ok\n" {
		t.Errorf("%d: %s", code, text)
	}
	if code, _ = get(t, server.URL+"/nothing"); code != http.StatusNotFound {
		t.Errorf("an unknown page answers %d", code)
	}
}

func TestEmptyPageExplains(t *testing.T) {
	if _, page := see(t, serve(t, console.Status{}).URL); !strings.Contains(page, "recycle-runner") {
		t.Errorf("the page is %s", page)
	}
}
