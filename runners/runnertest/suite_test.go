package runnertest_test

import (
	"errors"
	"io/fs"
	"sync"
	"testing"

	"github.com/hearth-build/hearth/runners"
	"github.com/hearth-build/hearth/runners/runnertest"
)

func TestHostProcess(t *testing.T) {
	server, err := runnertest.BuildExecServer(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	dirs := perTest[string]{}
	runnertest.TestBackend(t, func(t *testing.T) runners.Backend {
		dir := dirs.get(t, func() string { return runnertest.PublicDir(t) })
		b, err := runnertest.NewHostProcess(dir, server)
		if err != nil {
			t.Fatal(err)
		}
		return b
	})
}

func TestFake(t *testing.T) {
	fakes := perTest[*runnertest.Fake]{}
	runnertest.TestLifecycle(t, func(t *testing.T) runners.Backend {
		f := fakes.get(t, func() *runnertest.Fake { return runnertest.NewFake() }).Restarted()
		t.Cleanup(func() {
			if live := f.Live(); len(live) > 0 {
				t.Errorf("left: %v", live)
			}
		})
		return f
	})
}

// perTest keeps one value for each test.
type perTest[T any] struct {
	mu     sync.Mutex // guards values
	values map[string]T
}

func (p *perTest[T]) get(t *testing.T, create func() T) T {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.values == nil {
		p.values = map[string]T{}
	}
	if _, ok := p.values[t.Name()]; !ok {
		p.values[t.Name()] = create()
	}
	return p.values[t.Name()]
}

func TestHostProcessTellsWhatIsMissing(t *testing.T) {
	if _, err := runnertest.NewHostProcess(t.TempDir(), "/no/such/program"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no exec server: %v", err)
	}
}
