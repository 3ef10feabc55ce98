package execution

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// History remembers the runs that ended last.
type History struct {
	maxRuns int

	mu    sync.Mutex // guards what follows
	runs  []*Finished
	bytes int
}

// maxHistoryBytes bounds a History by its size, beside the number of runs.
const maxHistoryBytes = 64 << 20

// NewHistory returns a History of the last maxRuns runs; of fewer if they are large.
func NewHistory(maxRuns int) (*History, error) {
	if maxRuns < 0 {
		return nil, fmt.Errorf("history is %d: it cannot be negative", maxRuns)
	}
	return &History{maxRuns: maxRuns}, nil
}

// Observe is an Observer.
func (h *History) Observe(_ context.Context, f *Finished) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.runs = append(h.runs, f)
	h.bytes += f.footprint()
	for len(h.runs) > h.maxRuns || h.bytes > maxHistoryBytes {
		h.bytes -= h.runs[0].footprint()
		h.runs[0] = nil
		h.runs = h.runs[1:]
	}
}

// footprint is about what f takes in memory.
func (f *Finished) footprint() int {
	const fixed = 1000
	n := fixed + len(f.Error) + len(f.Message) + len(f.Result) + len(f.Runner.ColdReason)
	for _, arg := range f.Args {
		n += len(arg)
	}
	return n
}

// Filter says which runs are wanted; the zero Filter wants all.
type Filter struct {
	// Limit is how many, the latest; 0: no limit.
	Limit int
	// Invocation, if not empty, is the build that they belong to.
	Invocation string
	// Failed ones alone.
	Failed bool
	// Action, if not empty, is the beginning of the hash of their action, or the
	// whole hash, a slash and the size.
	Action string
	// Runner, if not empty, is the ID of the one that they ran in.
	Runner string
	// Visible, if not nil, says which runs may be seen at all.
	Visible func(*Finished) bool
}

// Find returns what the filter lets through, the latest first.
func (h *History) Find(filter Filter) []*Finished {
	h.mu.Lock()
	runs := slices.Clone(h.runs)
	h.mu.Unlock()
	var found []*Finished
	for _, f := range slices.Backward(runs) {
		if filter.Limit > 0 && len(found) == filter.Limit {
			break
		}
		if filter.wants(f) {
			found = append(found, f)
		}
	}
	return found
}

func (w Filter) wants(f *Finished) bool {
	if w.Visible != nil && !w.Visible(f) || w.Failed && !f.Failed() || w.Invocation != "" && f.Invocation != w.Invocation {
		return false
	}
	if w.Runner != "" && f.Runner.RunnerID != w.Runner {
		return false
	}
	hash, size, sized := strings.Cut(w.Action, "/")
	if sized {
		return f.Action.Hash() == hash && strconv.FormatInt(f.Action.Size(), 10) == size
	}
	return strings.HasPrefix(f.Action.Hash(), hash)
}
