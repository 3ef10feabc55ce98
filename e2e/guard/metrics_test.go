package guard_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestMetricsThatAreWatchedExist: a dashboard or an alert about a metric that is
// not there shows nothing, and nobody notices. What docs/metrics.md lists is what a
// server shows: TestMetricsPageIsComplete of cmd/hearth compares the two.
func TestMetricsThatAreWatchedExist(t *testing.T) {
	listed := metricNames(t, "docs/metrics.md", "")
	if len(listed) < 10 {
		t.Fatalf("docs/metrics.md lists only %q", listed)
	}
	// What Prometheus makes of one histogram.
	for _, name := range slices.Clone(listed) {
		if strings.HasSuffix(name, "_seconds") {
			listed = append(listed, name+"_bucket", name+"_sum", name+"_count")
		}
	}
	var queries []string
	for _, p := range panels(t) {
		if p.Title == "" || p.Description == "" && p.Type != "row" {
			t.Errorf("panel %q of the dashboard says not what it shows", p.Title)
		}
		for _, target := range p.Targets {
			queries = append(queries, target.Expr)
		}
	}
	if len(queries) < 10 {
		t.Fatalf("only %d queries are in the dashboard", len(queries))
	}
	for from, names := range map[string][]string{
		"deploy/grafana.json": metricNames(t, "deploy/grafana.json", strings.Join(queries, "\n")),
		"deploy/alerts.yaml":  metricNames(t, "deploy/alerts.yaml", ""),
	} {
		if len(names) < 5 {
			t.Errorf("%s names only %q", from, names)
		}
		for _, name := range names {
			if !slices.Contains(listed, name) {
				t.Errorf("%s: there is no metric %s in docs/metrics.md", from, name)
			}
		}
	}
}

// metricNames are those of hearth and of its process that a text, or else a file, has.
func metricNames(t *testing.T, file, text string) []string {
	t.Helper()
	if text == "" {
		content, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			t.Fatal(err)
		}
		text = string(content)
	}
	names := regexp.MustCompile(`\b(hearth|process|go)_[a-z0-9_]+`).FindAllString(text, -1)
	slices.Sort(names)
	return slices.Compact(names)
}

// panel is a picture of the dashboard.
type panel struct {
	Title, Description, Type string
	Targets                  []struct{ Expr string }
}

func panels(t *testing.T) []panel {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "deploy/grafana.json"))
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		UID, Title string
		Panels     []panel
	}
	if err := json.Unmarshal(text, &dashboard); err != nil {
		t.Fatal(err)
	}
	if dashboard.UID == "" || dashboard.Title == "" {
		t.Error("the dashboard has no uid or no title")
	}
	return dashboard.Panels
}
