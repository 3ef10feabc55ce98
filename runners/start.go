package runners

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

// startTimeout bounds how long a container engine that hangs holds up an action.
const startTimeout = 2 * time.Minute

func withStartTimeout(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, startTimeout)
}

// resolved is an image, and whether the pool took it for granted.
type resolved struct {
	Image
	known bool
}

// start makes the container of a lease that take reserved.
func (p *Pool) start(ctx context.Context, l *Lease, platform Platform, image resolved) (*Lease, error) {
	r := l.r
	starting, cancel := withStartTimeout(ctx)
	defer cancel()
	stop := context.AfterFunc(p.work(), cancel)
	defer stop()
	instance, err := p.launch(starting, r, platform.Network, image.Image)
	if err != nil {
		p.images.forget(platform.Image)
		p.mu.Lock()
		r.become(Removed)
		p.leaving++
		p.goneLocked(r)
		p.mu.Unlock()
		return nil, p.startError(ctx, r, image, err)
	}
	p.log.DebugContext(ctx, "runner started", "runner", r.id, "image", image.Name, "reason", l.info.ColdReason)
	p.mu.Lock()
	r.instance, r.image = instance, image.Image
	r.become(Busy)
	p.mu.Unlock()
	return p.activate(l)
}

// launch leaves nothing behind on error.
func (p *Pool) launch(ctx context.Context, r *runner, network string, image Image) (Instance, error) {
	if err := os.Mkdir(r.dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the runner's directory: %w", err)
	}
	instance, err := p.backend.Start(ctx, Spec{ID: r.id, Image: image, Dir: r.dir, Network: network})
	if err == nil {
		return instance, nil
	}
	if rmErr := RemoveTree(r.dir); rmErr != nil {
		err = fmt.Errorf("%w (and %s is left behind: %w)", err, r.dir, rmErr)
	}
	return nil, err
}

func (p *Pool) startError(ctx context.Context, r *runner, image resolved, err error) error {
	what := "start runner " + r.id
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", what, context.Cause(ctx))
	case image.known && errors.Is(err, ErrImage):
		// Somebody removed the image since. It is looked for again the next
		// time, so this is not the client's mistake yet.
		return fmt.Errorf("%w: %s: %v", ErrLost, what, err)
	default:
		return p.backendError(what, err)
	}
}
