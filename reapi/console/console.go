package console

import (
	_ "embed"
	"html/template"
	"net/http"
	"time"

	"github.com/hearth-build/hearth/reapi/access"
	"github.com/hearth-build/hearth/reapi/execution"
)

// Status is what the pages show.
type Status struct {
	Version  string         `json:"version"`
	Started  time.Time      `json:"started"`
	Endpoint string         `json:"endpoint"`
	Load     execution.Load `json:"load"`
	Runners  []Runner       `json:"runners"`
}

// Runner is one container.
type Runner struct {
	ID    string        `json:"id"`
	State string        `json:"state"`
	Key   string        `json:"key"`
	Runs  int           `json:"runs"`
	Age   time.Duration `json:"age_ns"`
}

// Source tells the present status.
type Source interface{ Status() Status }

//go:embed status.html
var statusPage string

// Handler serves the status page at /, the same as JSON at /status.json, the
// actions that ended at /actions, and /healthz, which is for everybody; the other
// pages show what the caller may see.
func Handler(source Source, actions Actions, who access.Authenticator) (http.Handler, error) {
	page, err := template.New("status").Parse(statusPage)
	if err != nil {
		return nil, err
	}
	open, pages := http.NewServeMux(), http.NewServeMux()
	open.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("ok\n")) // the client is gone if this fails
	})
	open.Handle("/", identify(pages, who))
	pages.HandleFunc("GET /status.json", forOperators(func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, source.Status())
	}))
	pages.HandleFunc("GET /{$}", forOperators(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_ = page.Execute(w, source.Status()) // likewise
	}))
	return open, addActions(pages, actions)
}
