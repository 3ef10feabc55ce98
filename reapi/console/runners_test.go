package console_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/reapi/access"
	"github.com/hearth-build/hearth/reapi/console"
	"github.com/hearth-build/hearth/runners"
)

// pool has runners that are idle, so that each is gone when somebody says so.
type pool struct {
	all  []runners.RunnerInfo
	gone []runners.Departed
}

func (p *pool) Snapshot() []runners.RunnerInfo { return slices.Clone(p.all) }

func (p *pool) Departed() []runners.Departed { return slices.Clone(p.gone) }

func (p *pool) Drain(id string) error { return p.Remove(id) }

func (p *pool) Remove(id string) error {
	i := slices.IndexFunc(p.all, func(r runners.RunnerInfo) bool { return r.ID == id })
	if i < 0 {
		return fmt.Errorf("%w: %q", runners.ErrNoRunner, id)
	}
	p.all = slices.Delete(p.all, i, i+1)
	return nil
}

// serveRunners serves two runners, the first of which ran one of two actions.
func serveRunners(t *testing.T) (url string, left *pool) {
	t.Helper()
	left = &pool{all: []runners.RunnerInfo{
		{
			ID: "r-1", State: runners.Paused, Key: "k", Image: "host", Runs: 7, Age: time.Hour, ColdReason: "first action of this key",
			IdleSince: time.Now().Add(-time.Minute), Footprint: runners.Footprint{Memory: 1, Disk: runners.Drift{Bytes: 2, Files: 3}},
		},
		{ID: "r-2", State: runners.Busy, Dismissed: "it was drained by hand"},
	}}
	server := serveOptions(t, console.Options{
		Source: fixed{}, Runners: left,
		Actions: ended{
			{Action: cas.SHA256.Sum([]byte("here")), Runner: runners.LeaseInfo{RunnerID: "r-1"}},
			{Action: cas.SHA256.Sum([]byte("elsewhere")), Runner: runners.LeaseInfo{RunnerID: "r-3"}},
		},
		Access: byToken{"operator": access.Everybody(), "reader": {Grants: map[string]access.Roles{access.AnyInstance: access.Read}}},
	})
	return server.URL, left
}

func TestRunners(t *testing.T) {
	url, _ := serveRunners(t)
	_, text := askAs(t, url+"/runners", "Bearer operator")
	var list []console.Runner
	if err := json.Unmarshal([]byte(text), &list); err != nil || len(list) != 2 || list[1].Leaving != "it was drained by hand" || list[1].Idle != 0 {
		t.Errorf("%s (%v)", text, err)
	}
	_, text = askAs(t, url+"/runners/r-1", "Bearer operator")
	var one console.Runner
	if err := json.Unmarshal([]byte(text), &one); err != nil || one.State != "paused" || one.Image != "host" || one.ColdReason == "" ||
		one.Idle < time.Minute || one.MemoryBytes != 1 || one.DriftBytes != 2 || one.DriftFiles != 3 {
		t.Errorf("%s (%v)", text, err)
	}
	if len(one.Actions) != 1 || !strings.HasPrefix(one.Actions[0].Digest, cas.SHA256.Sum([]byte("here")).Hash()) {
		t.Errorf("its actions: %s", text)
	}
	if got, _ := askAs(t, url+"/runners/r-9", "Bearer operator"); got != http.StatusNotFound {
		t.Errorf("one that is not there: %d", got)
	}
}

// Orders are taken from operators, by POST, and not from a page of another site
// that an operator looks at.
func TestOrders(t *testing.T) {
	url, left := serveRunners(t)
	order := func(method, path, token, site string) int {
		req, err := http.NewRequest(method, url+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		if site != "" {
			req.Header.Set("Sec-Fetch-Site", site)
		}
		code, _ := do(t, req)
		return code
	}
	for _, path := range []string{"/runners/r-1/drain", "/runners/r-2/remove"} {
		before := len(left.all)
		for what, refused := range map[string]struct {
			code                int
			method, token, site string
		}{
			"a guess":         {http.StatusUnauthorized, http.MethodPost, "guess", ""},
			"a reader":        {http.StatusForbidden, http.MethodPost, "reader", ""},
			"another site":    {http.StatusForbidden, http.MethodPost, "operator", "cross-site"},
			"a mere question": {http.StatusMethodNotAllowed, http.MethodGet, "operator", ""},
		} {
			if code := order(refused.method, path, refused.token, refused.site); code != refused.code || len(left.all) != before {
				t.Errorf("%s by %s: %d, %d left", path, what, code, len(left.all))
			}
		}
		if code := order(http.MethodPost, path, "operator", "same-origin"); code != http.StatusNoContent || len(left.all) != before-1 {
			t.Errorf("%s: %d, %d left", path, code, len(left.all))
		}
		if code := order(http.MethodPost, path, "operator", ""); code != http.StatusNotFound {
			t.Errorf("%s again: %d", path, code)
		}
	}
}
