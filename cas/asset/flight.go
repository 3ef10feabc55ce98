package asset

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// flights are the downloads in progress. Queries with one name share one.
type flights struct {
	group sync.WaitGroup // of all that run

	mu      sync.Mutex // guards what follows, and what of a flight is said so
	closed  bool
	running map[string]*flight
	// unseen has the downloads that went well and that nobody who waited has the result
	// of, since all had run into a deadline, and when they started. See missed.
	unseen map[string]time.Time
}

// flight is one download. It is no part of any of the calls that wait for it.
type flight struct {
	cancel  context.CancelCauseFunc
	started time.Time
	done    chan struct{} // closed at the end; then the result is there
	fetched Fetched
	err     error

	waiters  int  // guarded by flights.mu
	detached bool // likewise: goes on when nobody waits any more
}

// errUnwanted ends a download that nobody waits for.
var errUnwanted = errors.New("nobody waits for the download any more")

// maxUnseen bounds flights.unseen, which is only a convenience.
const maxUnseen = 1000

func newFlights() *flights {
	return &flights{running: map[string]*flight{}, unseen: map[string]time.Time{}}
}

// do returns what run does, which only the first of several callers with the
// same name starts. It runs for timeout at most. A caller whose own time ends
// before leaves it running, so that the download is there when he asks again;
// if all callers leave for other reasons it is cancelled.
func (fs *flights) do(ctx context.Context, name string, timeout time.Duration, run func(context.Context) (Fetched, error)) (Fetched, error) {
	f, err := fs.join(ctx, name, timeout, run)
	if err != nil {
		return Fetched{}, err
	}
	select {
	case <-f.done:
	case <-ctx.Done():
	}
	if ctx.Err() != nil { // also if both are
		fs.leave(name, f)
		return Fetched{}, fmt.Errorf("wait for the download: %w", context.Cause(ctx))
	}
	fs.saw(name, f)
	return f.fetched, f.err
}

func (fs *flights) join(ctx context.Context, name string, timeout time.Duration, run func(context.Context) (Fetched, error)) (*flight, error) {
	deadline, ok := ctx.Deadline()
	detached := ok && time.Until(deadline) < timeout
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.closed {
		return nil, ErrClosed
	}
	f := fs.running[name]
	if f == nil {
		f = &flight{started: time.Now(), done: make(chan struct{})}
		base, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
		f.cancel = cancel
		fs.running[name] = f
		fs.group.Go(func() {
			limited, stop := context.WithTimeoutCause(base, timeout, ErrTimeout)
			defer stop()
			f.fetched, f.err = run(limited)
			fs.finish(name, f)
		})
	}
	f.waiters++
	f.detached = f.detached || detached
	return f, nil
}

func (fs *flights) finish(name string, f *flight) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	close(f.done)
	f.cancel(nil)
	if fs.running[name] == f {
		delete(fs.running, name)
	}
	if f.err != nil {
		return
	}
	if len(fs.unseen) >= maxUnseen {
		clear(fs.unseen)
	}
	fs.unseen[name] = f.started
}

// saw notes that somebody has the result.
func (fs *flights) saw(name string, f *flight) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.unseen[name].Equal(f.started) {
		delete(fs.unseen, name)
	}
}

func (fs *flights) leave(name string, f *flight) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	f.waiters--
	select {
	case <-f.done:
		return
	default:
	}
	if f.waiters == 0 && !f.detached {
		f.cancel(errUnwanted)
		delete(fs.running, name) // whoever asks now wants another one
	}
}

// missed tells once when a download started whose result nobody saw. The client
// that asks for it again gets it, also if it said at first that it takes
// nothing that was there before: it was not.
func (fs *flights) missed(name string) (started time.Time, ok bool) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	started, ok = fs.unseen[name]
	delete(fs.unseen, name)
	return started, ok
}

// close cancels all downloads and waits for their end, or ctx's.
func (fs *flights) close(ctx context.Context) error {
	fs.mu.Lock()
	fs.closed = true
	for _, f := range fs.running {
		f.cancel(ErrClosed)
	}
	fs.mu.Unlock()
	ended := make(chan struct{})
	go func() { // ends with the last download
		fs.group.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the end of downloads: %w", context.Cause(ctx))
	}
}
