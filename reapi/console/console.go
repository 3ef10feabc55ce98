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
	Runners  []*Runner      `json:"runners"`
}

// Source tells the present status, but for the runners.
type Source interface{ Status() Status }

//go:embed status.html
var statusPage string

// Options are what a console shows, and to whom.
type Options struct {
	Source  Source
	Actions Actions
	Runners Runners
	// Audits is nil where nothing is audited.
	Audits Audits
	// Metrics is what monitors read.
	Metrics http.Handler
	Access  access.Authenticator
}

// Handler serves the status page at /, the same as JSON at /status.json, the
// actions that ended at /actions, the runners at /runners, their audit at /audit, /metrics, and /healthz, which is for
// everybody; the other pages show what the caller may see.
func Handler(o Options) (http.Handler, error) {
	page, err := template.New("status").Parse(statusPage)
	if err != nil {
		return nil, err
	}
	status := func() Status {
		s := o.Source.Status()
		s.Runners = allRunners(o.Runners)
		return s
	}
	open, pages := http.NewServeMux(), http.NewServeMux()
	open.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("ok\n")) // the client is gone if this fails
	})
	// Without it any page that somebody visits could give orders to a console on the
	// same machine.
	open.Handle("/", http.NewCrossOriginProtection().Handler(identify(pages, o.Access)))
	pages.HandleFunc("GET /status.json", forOperators(func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, status())
	}))
	pages.HandleFunc("GET /{$}", forOperators(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_ = page.Execute(w, status()) // likewise
	}))
	addRunners(pages, o.Runners, o.Actions)
	addAudit(pages, o.Audits)
	if o.Metrics != nil {
		pages.HandleFunc("GET /metrics", forOperators(o.Metrics.ServeHTTP))
	}
	return open, addActions(pages, o.Actions)
}
