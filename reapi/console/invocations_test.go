package console_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hearth-build/hearth/reapi/console"
	"github.com/hearth-build/hearth/reapi/execution"
)

// An invocation has the actions of one build, of one tenant.
func TestInvocations(t *testing.T) {
	r := newRig(t)
	r.observe("", "first", nil)
	r.observe("", "second", func(f *execution.Finished) {
		f.ExitCode, f.Runner.Warm, f.Queued = 0, true, f.Ended.Add(-3*time.Second)
	})
	r.observe("", "third", func(f *execution.Finished) { f.ExitCode, f.Cached, f.Runner.RunnerID = 0, true, "" })
	r.observe("", "fourth", func(f *execution.Finished) { f.Invocation = "another/one" })
	r.observe("", "fifth", func(f *execution.Finished) { f.Invocation = "" })
	r.observe("b", "foreign", func(f *execution.Finished) { f.Invocation = "build of " })
	var list []console.Invocation
	if _, text := askAs(t, r.url+"/invocations", "Bearer reader"); json.Unmarshal([]byte(text), &list) != nil || len(list) != 2 || list[0].ID != "another/one" {
		t.Fatalf("%s", text)
	}
	if b := list[1]; b.Actions != 3 || b.Cached != 1 || b.Cold != 1 || b.Warm != 1 || b.Failed != 1 || b.Misses != 2 || b.Lasted() < 3*time.Second {
		t.Errorf("%+v", b)
	}
	if _, text := askAs(t, r.url+"/invocations", "Bearer operator"); json.Unmarshal([]byte(text), &list) != nil || len(list) != 3 {
		t.Errorf("an operator sees those of each tenant: %s", text)
	}
	var build console.Build
	if _, text := askAs(t, r.url+"/invocations/build%20of%20", "Bearer reader"); json.Unmarshal([]byte(text), &build) != nil || len(build.Slowest) != 3 ||
		!strings.HasPrefix(build.Slowest[0].Target, "//:second") || len(build.ColdOnes) != 1 || len(build.MissedOnes) != 2 || len(build.FailedOnes) != 1 ||
		build.Phases[0].Name != "execution" || build.Phases[0].Sum != 2400*time.Millisecond || build.Phases[0].Actions != 3 {
		t.Errorf("%s", text)
	}
	r.want("reader", "/invocations", `href="/invocations/another%2Fone"`, "build of ")
	r.want("reader", "/invocations/another%2Fone", "//:fourth", "first action of this key")
	text := r.want("reader", "/invocations/build%20of%20", `role="img"`, `class="cold"`, `class="failed"`, `class="cached"`, "//:second", "Where the time went")
	if strings.Contains(text, "foreign") {
		t.Errorf("%s", text)
	}
	for _, wrong := range []string{"/invocations/", "/invocations/none", "/invocations/build%20of%20b"} {
		if code, _ := r.page("reader", wrong); code != http.StatusNotFound {
			t.Errorf("%s answers %d", wrong, code)
		}
	}
}

// No page is without an explanation when there is nothing, and each keeps a browser from
// running or loading anything but what is the console's own.
func TestEmptyPages(t *testing.T) {
	r := newRig(t)
	for _, path := range []string{"/", "/actions", "/actions?failed=true", "/invocations", "/runners", "/audit", "/actions/none", "/invocations/none", "/runners/none"} {
		if _, text := r.page("operator", path); !strings.Contains(text, `class="empty"`) || !strings.Contains(text, "<h1>") || !strings.Contains(text, "· hearth</title>") {
			t.Errorf("%s: %s", path, text)
		}
	}
	for _, path := range []string{"/", "/actions", "/none", "/store", "/invocations/none", "/actions?limit=x"} {
		resp, _ := r.get("operator", path)
		if policy := resp.Header.Get("Content-Security-Policy"); path != "/none" && (!strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "unsafe")) {
			t.Errorf("%s: %q", path, policy)
		}
	}
	for path, kind := range map[string]string{"/assets/style.css": "text/css", "/assets/live.js": "javascript", "/assets/icon.svg": "image/svg+xml"} {
		if resp, _ := r.get("reader", path); resp.StatusCode != http.StatusOK || !strings.Contains(resp.Header.Get("Content-Type"), kind) {
			t.Errorf("%s: %s %v", path, resp.Status, resp.Header)
		}
	}
	if resp, text := r.get("reader", "/assets/"); resp.StatusCode != http.StatusNotFound {
		t.Errorf("a list of files: %s", text)
	}
}

// What an operator looks at, beside the actions: the store and the runners that ended.
func TestOperatorsPages(t *testing.T) {
	r := newRig(t)
	r.observe("", "one", nil)
	r.observe("", "two", func(f *execution.Finished) { f.Cached, f.ExitCode = true, 0 })
	r.observe("", "three", func(f *execution.Finished) { f.Phases = f.Phases[1:] })
	r.want("operator", "/store", "25.0 % in use", "50 % <small>of 2 lookups", "1 actions were not looked up", "70 B", "nothing: what is evicted here is gone")
	var store console.Store
	if _, text := askAs(t, r.url+"/store", "Bearer operator"); json.Unmarshal([]byte(text), &store) != nil || store.Hits != 1 || store.Lookups != 2 || store.Evicted != 7 {
		t.Errorf("%s", text)
	}
	r.want("operator", "/", "Actions that ended", "33 %", "minute")
	var status console.Status
	if _, text := askAs(t, r.url+"/", "Bearer operator"); json.Unmarshal([]byte(text), &status) != nil || status.Throughput[0].Actions != 3 || status.Throughput[2].Failed != 2 ||
		status.Throughput[0].Median != time.Second || status.Minutes[len(status.Minutes)-1].Failed != 2 || status.Remembered != 3 {
		t.Errorf("%s", text)
	}
	op := r.start("", "going")
	id := r.pool.Snapshot()[0].ID
	r.want("operator", "/runners/"+id, "//:going", "Drain", "first action of this key", "recycle-runner=true")
	if err := r.pool.Drain(id); err != nil {
		t.Fatal(err)
	}
	r.want("operator", "/runners/"+id, "it was drained by hand")
	r.stop()
	r.until("it has ended", func() bool { return op.State().Done() && len(r.pool.Departed()) == 1 })
	r.want("operator", "/runners/"+id, "retired", "it was drained by hand", "Lived", "//:going")
	r.want("operator", "/runners", id, "it was drained by hand")
	var one console.Runner
	if _, text := askAs(t, r.url+"/runners/"+id, "Bearer operator"); json.Unmarshal([]byte(text), &one) != nil || one.Ended == nil || one.Ended.How != "retired" || one.Runs != 1 {
		t.Errorf("%s", text)
	}
}
