package runners_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hearth-build/hearth/runners"
	"github.com/hearth-build/hearth/runners/runnertest"
)

// chaos makes calls of a backend slow, and fail now and then.
type chaos struct {
	mu   sync.Mutex // guards rand
	rand *rand.Rand
	// failures per hundred calls; removals always work in the end.
	failures int
}

func (c *chaos) hook(ctx context.Context, _, _ string) error {
	c.mu.Lock()
	delay := time.Duration(c.rand.IntN(500)) * time.Millisecond
	fail := c.rand.IntN(100) < c.failures
	c.mu.Unlock()
	select {
	case <-time.After(delay):
	case <-ctx.Done():
		return ctx.Err()
	}
	if fail {
		return errBroken
	}
	return nil
}

// model is what a pool must keep to, watched from outside.
type model struct {
	*rig
	limit int
	rand  *rand.Rand

	mu      sync.Mutex // guards all below
	held    map[string]*runners.Lease
	keys    map[string]string // of runners, from their first lease
	errs    []error
	tasks   sync.WaitGroup
	waiting int
	leases  int
	warm    int
	woken   int
	spare   int
}

// checks what must be true at any time.
func (m *model) check() {
	m.Helper()
	if n := len(m.fake.Live()); n > m.limit {
		m.Errorf("%d containers, more than %d", n, m.limit)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	states := map[string]runners.State{}
	for _, info := range m.pool.Snapshot() {
		states[info.ID] = info.State
	}
	if len(states) > m.limit {
		m.Errorf("%d runners, more than %d", len(states), m.limit)
	}
	for id := range m.held {
		if states[id] != runners.Busy {
			m.Errorf("%s is leased and %v", id, states[id])
		}
	}
	for _, err := range m.errs {
		if !errors.Is(err, runners.ErrLost) && !errors.Is(err, context.Canceled) && !errors.Is(err, runners.ErrClosed) {
			m.Errorf("acquire: %v", err)
		}
	}
	m.errs = nil
}

func (m *model) acquire(ctx context.Context, key string, req runners.Request) {
	lease, err := m.pool.Acquire(ctx, req)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.waiting--
	if err != nil {
		m.errs = append(m.errs, err)
		return
	}
	info := lease.Info()
	m.leases++
	if m.held[info.RunnerID] != nil {
		m.Errorf("%s is leased twice", info.RunnerID)
	}
	if first, ok := m.keys[info.RunnerID]; ok != info.Warm || (ok && first != key) {
		m.Errorf("%+v, made for %q, was leased for %q", info, first, key)
	}
	if info.Warm {
		m.warm++
	}
	if !info.Warm && info.WokenFrom != runners.Starting {
		m.spare++
	}
	if info.WokenFrom == runners.Paused {
		m.woken++
	}
	if info.Warm == (info.ColdReason != "") {
		m.Errorf("cold reason of %+v", info)
	}
	m.keys[info.RunnerID] = key
	m.held[info.RunnerID] = lease
}

// anyHeld takes one lease out of those that are held.
func (m *model) anyHeld() *runners.Lease {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, lease := range m.held { // the order of maps is random enough
		delete(m.held, id)
		return lease
	}
	return nil
}

func (m *model) step() {
	m.mu.Lock()
	crowded := m.waiting > 3
	m.mu.Unlock()
	switch n := m.rand.IntN(10); {
	case n < 4 && !crowded:
		m.mu.Lock()
		m.waiting++
		m.mu.Unlock()
		word := fmt.Sprintf("k=%d", m.rand.IntN(4))
		req := m.recycled(word)
		if m.rand.IntN(5) == 0 {
			req = runners.Request{Platform: platform(m, word)}
			word = "fresh " + word
		}
		ctx, cancel := context.WithCancel(context.Background())
		giveUp := m.rand.IntN(5) == 0
		m.tasks.Go(func() {
			defer cancel()
			m.acquire(ctx, word, req)
		})
		if giveUp {
			m.tasks.Go(func() {
				<-time.After(time.Second)
				cancel()
			})
		}
	case n < 8:
		if lease := m.anyHeld(); lease != nil {
			clean := m.rand.IntN(6) > 0
			m.tasks.Go(func() {
				if _, err := lease.Run(context.Background(), runners.Command{Args: []string{"true"}}, io.Discard, io.Discard); err != nil && !errors.Is(err, runners.ErrLost) {
					m.Errorf("run: %v", err)
				}
				if clean {
					lease.Release()
				} else {
					lease.Discard("the model says so")
				}
			})
		}
	default:
		<-time.After(time.Duration(m.rand.IntN(8000)) * time.Millisecond)
	}
}

func TestRandomOperationsKeepTheInvariants(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			policy := []runners.PausePolicy{runners.PauseAlways, runners.PauseAdaptive}[seed%2]
			opts := runners.Options{
				MaxRunners: 1 + 2*int(seed), Pause: policy, IdleTimeout: 30 * time.Second, PauseDelay: time.Second, Spares: int(seed) / 2,
			}
			inBubble(t, opts, func(r *rig) {
				random := rand.New(rand.NewPCG(seed, 1))
				c := &chaos{rand: rand.New(rand.NewPCG(seed, 2)), failures: 3}
				r.fake.SetHook(c.hook)
				r.fake.SetProgram(func(ctx context.Context, p runnertest.Process) (runners.Result, error) {
					r.burn(p.RunnerID, float64(len(p.RunnerID)%2)) // some burn, others do not
					return runnertest.Builtins(ctx, p)
				})
				m := &model{rig: r, limit: opts.MaxRunners, rand: random, held: map[string]*runners.Lease{}, keys: map[string]string{}}
				for range 1000 {
					m.step()
					if random.IntN(2) == 0 {
						synctest.Wait()
					}
					m.check()
				}
				idle := make(chan struct{})
				go func() { defer close(idle); m.tasks.Wait() }()
				for done := false; !done; { // those that wait need what is held
					if lease := m.anyHeld(); lease != nil {
						lease.Release()
					}
					select {
					case <-idle:
						done = true
					case <-time.After(time.Second):
					}
				}
				for lease := m.anyHeld(); lease != nil; lease = m.anyHeld() {
					lease.Release()
				}
				m.check()
				if m.leases < 100 || (opts.MaxRunners > 2 && m.warm == 0) {
					t.Errorf("only %d leases, %d warm: the test shows nothing", m.leases, m.warm)
				}
				if opts.Spares > 0 && m.spare == 0 {
					t.Errorf("of %d leases none had a spare: the test shows nothing", m.leases)
				}
				t.Logf("%d leases, %d warm, %d woken, %d of spares, %d starts", m.leases, m.warm, m.woken, m.spare, r.fake.Count(runnertest.OpStart))
			})
		})
	}
}

func TestShutdownHalfWay(t *testing.T) {
	for seed := range uint64(30) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 3))
			opts := runners.Options{MaxRunners: 1 + random.IntN(6), Pause: runners.PauseAlways, PauseDelay: time.Second}
			inBubble(t, opts, func(r *rig) {
				c := &chaos{rand: rand.New(rand.NewPCG(seed, 4)), failures: 5}
				r.fake.SetHook(c.hook)
				var tasks sync.WaitGroup
				for range 50 {
					delay := time.Duration(random.IntN(30_000)) * time.Millisecond
					patience := time.Duration(random.IntN(60_000)) * time.Millisecond
					req := r.recycled(fmt.Sprintf("k=%d", random.IntN(3)))
					tasks.Go(func() {
						<-time.After(delay)
						ctx, cancel := context.WithTimeout(context.Background(), patience)
						defer cancel()
						err := oneAction(ctx, r.pool, req)
						for _, allowed := range []error{nil, runners.ErrClosed, runners.ErrLost, context.DeadlineExceeded} {
							if errors.Is(err, allowed) {
								return
							}
						}
						t.Errorf("an action ended with: %v", err)
					})
				}
				at(15 * time.Second)
				closed := <-r.closing(time.Duration(random.IntN(10_000)) * time.Millisecond)
				if closed != nil && !errors.Is(closed, errBroken) {
					t.Errorf("close: %v", closed)
				}
				tasks.Wait()
				r.fake.SetHook(nil)
				if n, err := r.fake.Restarted().Sweep(t.Context()); err != nil || (n > 0) != (closed != nil) {
					t.Errorf("%d runners were left (%v) after: %v", n, err, closed)
				}
				r.open(runners.Options{Dir: r.dir}) // to be closed without what was left
			})
		})
	}
}

func oneAction(ctx context.Context, pool *runners.Pool, req runners.Request) error {
	lease, err := pool.Acquire(ctx, req)
	if err != nil {
		return err
	}
	defer lease.Release()
	_, err = lease.Run(ctx, runners.Command{Args: []string{"sleep", "2"}}, io.Discard, io.Discard)
	return err
}
