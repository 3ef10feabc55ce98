package console

import (
	"net/http"

	"github.com/hearth-build/hearth/reapi/access"
	"github.com/hearth-build/hearth/reapi/execution"
)

// Options are what a console shows, and to whom.
type Options struct {
	Source  Source
	Actions Actions
	Runners Runners
	// InFlight is what goes on; nil where nothing does.
	InFlight InFlight
	// Instances are where blobs are; nil where none are shown.
	Instances Instances
	// Audits is nil where nothing is audited.
	Audits Audits
	// Store is nil where there is none.
	Store StoreSource
	// Engine is nil where containers are none that a person could start.
	Engine Engine
	// Metrics is what monitors read.
	Metrics http.Handler
	Access  access.Authenticator
}

// Actions tells which runs ended.
type Actions interface {
	// Find returns those that the filter lets through, the latest first.
	Find(filter execution.Filter) []*execution.Finished
}

// InFlight tells which runs go on.
type InFlight interface {
	// Unfinished describes those that are wanted.
	Unfinished(wanted func(*execution.Unfinished) bool) []*execution.Unfinished
}

// Instances are the instance names of the tenants, with their stores.
type Instances interface {
	// Instance finds one that is there; it opens none for who asks.
	Instance(tenant, name string) (*execution.Instance, bool)
}

var (
	_ Actions  = (*execution.History)(nil)
	_ InFlight = (*execution.Scheduler)(nil)
)

// nothing is in the place of what a console has not.
type nothing struct{}

func (nothing) Unfinished(func(*execution.Unfinished) bool) []*execution.Unfinished { return nil }

func (nothing) Instance(string, string) (*execution.Instance, bool) { return nil, false }

func (o *Options) setDefaults() {
	if o.InFlight == nil {
		o.InFlight = nothing{}
	}
	if o.Instances == nil {
		o.Instances = nothing{}
	}
}

// Handler serves the console. Each page is there as JSON, too, at the same URL, and as a
// stream of what changes; /healthz is for everybody, the others show what the caller may
// see.
func Handler(o Options) (http.Handler, error) {
	o.setDefaults()
	p, err := newPages(o)
	if err != nil {
		return nil, err
	}
	open, pages := http.NewServeMux(), http.NewServeMux()
	open.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("ok\n")) // the client is gone if this fails
	})
	// Without it any page that somebody visits could give orders to a console on the
	// same machine.
	open.Handle("/", http.NewCrossOriginProtection().Handler(p.identify(pages)))
	for pattern, opener := range map[string]opener{
		"GET /{$}":                 p.forOperators(simple(p.overview)),
		"GET /status.json":         p.forOperators(simple(p.overview)),
		"GET /runners":             p.forOperators(simple(p.runners)),
		"GET /runners/{id}":        p.forOperators(simple(p.runner)),
		"GET /audit":               p.forOperators(simple(p.audit)),
		"GET /store":               p.forOperators(simple(p.store)),
		"GET /actions":             simple(p.actions),
		"GET /actions/{digest...}": p.action,
		"GET /invocations":         simple(p.invocations),
		"GET /invocations/{id...}": simple(p.invocation),
		"GET /trees/{function}/{hash}/{size}/{path...}": p.trees,
	} {
		pages.HandleFunc(pattern, p.serve(opener))
	}
	pages.HandleFunc("GET /inputs/{function}/{hash}/{size}/{path...}", p.packed)
	pages.HandleFunc("GET /blobs/{function}/{hash}/{size}", p.blob)
	pages.HandleFunc("GET /operations/{id}/{stream}", p.log)
	pages.HandleFunc("POST /runners/{id}/drain", p.orders(o.Runners.Drain))
	pages.HandleFunc("POST /runners/{id}/remove", p.orders(o.Runners.Remove))
	pages.Handle("GET /assets/", serveAssets())
	if o.Metrics != nil {
		pages.HandleFunc("GET /metrics", p.operatorsOnly(o.Metrics.ServeHTTP))
	}
	return open, nil
}
