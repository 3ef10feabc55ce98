package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/reapi/buildbarn"
	"github.com/hearth-build/hearth/reapi/execution"
	"github.com/hearth-build/hearth/runners"
)

// What a monitor reads: what was told of actions, and the state of every part.
func TestMetrics(t *testing.T) {
	s := serve(t, "127.0.0.1:0", t.TempDir(), "--execserver=/bin/true")
	if _, err := cas.PutBytes(t.Context(), s.client(""), cas.SHA256, []byte("a blob")); err != nil {
		t.Fatal(err)
	}
	at := time.Now()
	for _, f := range []execution.Finished{
		{Status: "OK", Queued: at, Ended: at.Add(30 * time.Millisecond), Runner: runners.LeaseInfo{RunnerID: "r", Warm: true}, Phases: []execution.Phase{{Name: "execution", Duration: 20 * time.Millisecond}}},
		{Status: "OK", Queued: at, Ended: at, Cached: true},
		{Status: "OK", Queued: at, Ended: at, Runner: runners.LeaseInfo{RunnerID: "r", ColdKind: "evicted"}},
		{Status: "DEADLINE_EXCEEDED", Queued: at, Ended: at, Runner: runners.LeaseInfo{RunnerID: "r", Spare: true, ColdKind: runners.ColdNotRecycled}},
	} {
		s.stack.metrics.observe(t.Context(), &f)
	}
	page := httptest.NewRecorder()
	s.stack.metrics.page.ServeHTTP(page, httptest.NewRequest(http.MethodGet, "/metrics", http.NoBody))
	text := page.Body.String()
	for _, line := range []string{
		`hearth_actions_total{cached="false",cold_because="",runner="warm",status="OK"} 1`,
		`hearth_actions_total{cached="true",cold_because="",runner="none",status="OK"} 1`,
		`hearth_actions_total{cached="false",cold_because="evicted",runner="cold",status="OK"} 1`,
		`hearth_actions_total{cached="false",cold_because="not recycled",runner="spare",status="DEADLINE_EXCEEDED"} 1`,
		`hearth_action_duration_seconds_bucket{cached="false",runner="warm",le="0.025"} 0`,
		`hearth_action_duration_seconds_bucket{cached="false",runner="warm",le="0.05"} 1`,
		`hearth_action_phase_duration_seconds_bucket{phase="execution",le="0.025"} 1`,
		`hearth_queue_actions{state="queued"} 0`,
		"hearth_busy_ratio 0",
		`hearth_runners{state="paused"} 0`,
		`hearth_runners_started_total 0`,
		`hearth_store_blobs 1`,
		`hearth_store_size_bytes `,
		`hearth_store_limit_bytes `,
		`process_resident_memory_bytes `,
		`go_goroutines `,
	} {
		if !strings.Contains(text, "\n"+line) {
			t.Errorf("%s is missing", line)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
}

// The page about metrics has exactly those that a server shows, once something of
// each kind has happened.
func TestMetricsPageIsComplete(t *testing.T) {
	s := serve(t, "127.0.0.1:0", t.TempDir(), "--execserver=/bin/true", "--audit-rate=0.5")
	s.stack.worker = &buildbarn.Worker{} // which `hearth worker` has
	s.stack.metrics.observe(t.Context(), &execution.Finished{Status: "OK", Phases: []execution.Phase{{Name: "execution"}}})
	shown := httptest.NewRecorder()
	s.stack.metrics.page.ServeHTTP(shown, httptest.NewRequest(http.MethodGet, "/metrics", http.NoBody))
	text, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	var documented, served []string
	for _, m := range regexp.MustCompile("`(hearth_[a-z_]+)`").FindAllSubmatch(text, -1) {
		documented = append(documented, string(m[1]))
	}
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (hearth_\S+)`).FindAllStringSubmatch(shown.Body.String(), -1) {
		served = append(served, m[1])
	}
	slices.Sort(documented)
	slices.Sort(served)
	if len(served) < 10 || !slices.Equal(documented, served) {
		t.Errorf("docs/metrics.md has %q, a server %q", documented, served)
	}
}
