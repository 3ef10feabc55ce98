package runners

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"
	"time"
)

// Pool owns runners: it starts them, leases them to one action at a time and
// removes them.
//
// One mutex guards everything that changes, here and in each runner. It is held
// for short moments, and never during a call of the backend, the file system or
// the logger. No other lock is taken under it, and it under saving alone.
type Pool struct {
	backend Backend
	opts    Options
	log     *slog.Logger
	prefix  string // of runner IDs, different in each process
	images  images

	// work is the context of what must end when Close begins, cleaning that of
	// removals, which end later. They are functions since a context is no
	// field; endWork and endCleaning cancel them.
	work, cleaning       func() context.Context
	endWork, endCleaning context.CancelCauseFunc

	nudge   chan struct{} // wakes the keeper early
	drained chan struct{} // closed when the pool is closed and nothing is left

	saving sync.Mutex // held while the demand is written; taken before mu

	mu      sync.Mutex // guards all below
	closed  bool
	made    int                // runners so far
	runners map[string]*runner // all that are not gone
	counted int                // those that count against MaxRunners
	leaving int                // those of them that are removed but not gone
	idle    []*runner          // idle and paused ones, the longest idle first
	waiters []*waiter          // first come, first served
	history history            // of those that take several actions
	singles history            // of the others
	wakeAt  time.Time          // when the keeper will look next
	tasks   int                // goroutines
	stuck   []error            // removals that failed for good
	demand  map[shape]*demand
	counts  Counts
	// memoryAt is when it is looked at again whether memory runs short, which it did
	// the last time if short is set.
	memoryAt time.Time
	short    bool
}

// NewPool returns a Pool with no runner in it.
func NewPool(backend Backend, opts Options) (*Pool, error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	opts = opts.withDefaults()
	if err := os.MkdirAll(opts.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the runners' directory: %w", err)
	}
	var id [4]byte
	_, _ = rand.Read(id[:]) // never fails
	p := &Pool{
		backend: backend,
		opts:    opts,
		log:     opts.Logger,
		prefix:  "hearth-" + hex.EncodeToString(id[:]) + "-",
		nudge:   make(chan struct{}, 1),
		drained: make(chan struct{}),
		runners: make(map[string]*runner),
		demand:  make(map[shape]*demand),
		counts:  Counts{Ended: map[string]int{}},
	}
	work, endWork := context.WithCancelCause(context.Background())
	cleaning, endCleaning := context.WithCancelCause(context.Background())
	p.work, p.endWork = func() context.Context { return work }, endWork
	p.cleaning, p.endCleaning = func() context.Context { return cleaning }, endCleaning
	p.images = images{resolve: p.resolveImage, spawn: p.spawn, ttl: opts.ImageTTL, entries: map[ImageRef]*imageEntry{}}
	p.spawn(p.keep)
	if err := p.loadDemand(); err != nil {
		p.log.Warn("no spare runners until they are wanted again", "error", err)
	}
	return p, nil
}

// maxWakes bounds how many frozen runners are tried before a new one is started.
const maxWakes = 5

// Acquire leases a runner: the most recently used one with the same key, else
// a new one. When there are too many it evicts the longest idle one, and when
// all are busy it waits. The caller must Release or Discard the lease.
//
// Errors: ErrImage, ErrPlatform, ErrBackend, ErrLost, ErrClosed, or the cause
// of ctx's end.
func (p *Pool) Acquire(ctx context.Context, req Request) (*Lease, error) {
	if req.Platform.canonical == "" {
		return nil, fmt.Errorf("%w: the request has none; make one with ParsePlatform", ErrPlatform)
	}
	image, known, err := p.images.get(ctx, req.Platform.Image, func(why string) { req.tell(StepImage, why) })
	if err != nil {
		return nil, err
	}
	w := want{
		holds: req.Holds,
		key:   newKey(req, image), recycle: req.Platform.Recycle, warm: req.Platform.Recycle, tell: req.tell,
		shape: shape{image.ID, req.Platform.Network}, image: image, private: req.Platform.Image.Password != "",
	}
	for tries := 0; ; tries++ {
		w.warm = w.warm && tries < maxWakes
		lease, err := p.take(ctx, w)
		if err != nil {
			return nil, err
		}
		switch {
		case !lease.ready:
			req.tell(StepStart, "starting a container: "+lease.info.ColdReason)
			return p.start(ctx, lease, req.Platform, resolved{image, known})
		case lease.freeze == nil:
			return lease, nil
		}
		req.tell(StepWake, "waking runner "+lease.info.RunnerID)
		if err := p.wake(ctx, lease); err == nil {
			return p.activate(lease)
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("wait for a runner to wake: %w", context.Cause(ctx))
		}
	}
}

// activate hands out a lease unless the pool was closed meanwhile.
func (p *Pool) activate(l *Lease) (*Lease, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		p.retireLocked(l.r, ending{removed, "the pool is shut down"})
		return nil, ErrClosed
	}
	return l, nil
}

// spawn starts a goroutine that Close waits for. It reports false, and starts
// nothing, when the pool is closed.
func (p *Pool) spawn(task func()) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.spawnLocked(task)
	return true
}

func (p *Pool) spawnLocked(task func()) {
	p.tasks++
	go func() {
		task()
		p.mu.Lock()
		defer p.mu.Unlock()
		p.tasks--
		p.checkDrainedLocked()
	}()
}

// Counts are what happened to runners since the pool was made.
type Counts struct {
	Started, Paused int
	// Ended by how, in the words of Cold.Kind.
	Ended map[string]int
}

// Counts returns them.
func (p *Pool) Counts() Counts {
	p.mu.Lock()
	defer p.mu.Unlock()
	counts := p.counts
	counts.Ended = maps.Clone(counts.Ended)
	return counts
}

// Snapshot describes all runners, the oldest first.
func (p *Pool) Snapshot() []RunnerInfo {
	p.mu.Lock()
	all := slices.SortedFunc(maps.Values(p.runners), func(a, b *runner) int { return cmp.Compare(a.number, b.number) })
	now := time.Now()
	infos, keys := make([]RunnerInfo, 0, len(all)), make([]Key, 0, len(all))
	for _, r := range all {
		keys = append(keys, r.key)
		infos = append(infos, r.infoLocked(now))
	}
	p.mu.Unlock()
	for i, key := range keys {
		infos[i].Key = key.String() // which takes a while
	}
	return infos
}
