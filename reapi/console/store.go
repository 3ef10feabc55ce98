package console

import (
	"net/http"

	"github.com/hearth-build/hearth/reapi/execution"
)

// Store is how full the store of this machine is, and what it was good for.
type Store struct {
	Blobs        int   `json:"blobs"`
	Bytes        int64 `json:"bytes"`
	MaxBytes     int64 `json:"max_bytes"`
	Reserved     int64 `json:"reserved_bytes"`
	Pinned       int   `json:"pinned"`
	Unproven     int   `json:"unproven"`
	Evicted      int   `json:"evicted"`
	EvictedBytes int64 `json:"evicted_bytes"`
	// Behind is the store behind this one, if there is one.
	Behind string `json:"behind,omitempty"`
	// Lookups in the action cache by the runs that are remembered, and those that
	// found a result.
	Lookups int `json:"cache_lookups"`
	Hits    int `json:"cache_hits"`
	// Uncached runs were not looked up, since their client or action wants that.
	Uncached int `json:"not_looked_up"`
}

// Percent is how full it is.
func (s *Store) Percent() float64 {
	if s.MaxBytes == 0 {
		return 0
	}
	return 100 * float64(s.Bytes) / float64(s.MaxBytes)
}

// StoreSource tells how full the store is.
type StoreSource interface{ StoreStatus() Store }

// store is what there is to say of the store.
func (p *pages) store(r *http.Request) (*page, error) {
	one := &page{title: "Store", section: "Store", template: "store.html"}
	if p.Store == nil {
		one.data = (*Store)(nil)
		one.json = notFound("there is no store on this machine")
		return one, nil
	}
	s := p.Store.StoreStatus()
	runs, err := p.finished(r, execution.Filter{})
	if err != nil {
		return nil, err
	}
	for _, f := range runs {
		switch {
		case f.Cached:
			s.Lookups++
			s.Hits++
		case lookedUp(f):
			s.Lookups++
		default:
			s.Uncached++
		}
	}
	one.data = &s
	return one, nil
}

// lookedUp reports whether the action cache was asked for the result of a run.
func lookedUp(f *execution.Finished) bool {
	for _, phase := range f.Phases {
		if phase.Name == cacheLookup {
			return true
		}
	}
	return false
}

// The phases that pages treat in a way of their own.
const (
	cacheLookup = "cache_lookup"
	phaseRun    = "execution"
)
