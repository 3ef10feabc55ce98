package runners

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// String is the image's name; the credentials are never shown.
func (r ImageRef) String() string { return r.Name }

// GoString is String, so that no format shows the credentials.
func (r ImageRef) GoString() string { return fmt.Sprintf("runners.ImageRef{%q}", r.Name) }

// images remembers for a while what image names stand for. Concurrent callers
// share one resolution, which goes on when they give up: the next one gains.
type images struct {
	resolve func(ref ImageRef, tell func(said string)) (Image, error)
	// spawn starts a goroutine that the pool waits for, or reports false
	// when it is shutting down. Not called under mu.
	spawn func(func()) bool
	ttl   time.Duration

	mu      sync.Mutex // guards all below and the entries
	entries map[ImageRef]*imageEntry
}

// imageEntry is one resolution. Its result is set before done is closed.
type imageEntry struct {
	done    chan struct{}
	said    string        // last, of how it goes on
	news    chan struct{} // closed and made anew when said changes
	image   Image
	err     error
	expires time.Time // zero until it is resolved
}

// get returns the image, and whether it was known already; if not, it tells why
// it waits, and how that goes on.
func (c *images) get(ctx context.Context, ref ImageRef, tell func(why string)) (image Image, known bool, err error) {
	c.mu.Lock()
	e := c.entries[ref]
	if e != nil && !e.expires.IsZero() {
		if time.Now().Before(e.expires) {
			image = e.image
			c.mu.Unlock()
			return image, true, nil
		}
		e = nil
	}
	fresh := e == nil
	if fresh {
		e = &imageEntry{done: make(chan struct{}), news: make(chan struct{})}
		c.pruneLocked()
		c.entries[ref] = e
	}
	c.mu.Unlock()
	tell("looking for container image " + ref.Name + ", or pulling it")
	if fresh && !c.spawn(func() { c.fill(ref, e) }) {
		c.finish(ref, e, Image{}, ErrClosed)
	}
	return c.wait(ctx, ref, e, tell)
}

// wait waits for a resolution, and tells how it goes on.
func (c *images) wait(ctx context.Context, ref ImageRef, e *imageEntry, tell func(why string)) (image Image, known bool, err error) {
	told := ""
	for {
		c.mu.Lock()
		said, news := e.said, e.news
		c.mu.Unlock()
		if said != told {
			tell("pulling container image " + ref.Name + ": " + said)
			told = said
		}
		select {
		case <-e.done:
			return e.image, false, e.err
		case <-news:
		case <-ctx.Done():
			return Image{}, false, fmt.Errorf("wait for container image %s: %w", ref, context.Cause(ctx))
		}
	}
}

func (c *images) fill(ref ImageRef, e *imageEntry) {
	image, err := c.resolve(ref, func(said string) {
		c.mu.Lock()
		defer c.mu.Unlock()
		e.said = said
		close(e.news)
		e.news = make(chan struct{})
	})
	if image.ID == "" && err == nil {
		err = fmt.Errorf("%w: the container engine gave no ID for %s", ErrLost, ref)
	}
	c.finish(ref, e, image, err)
}

func (c *images) finish(ref ImageRef, e *imageEntry, image Image, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e.image, e.err = image, err
	if err != nil {
		if c.entries[ref] == e {
			delete(c.entries, ref)
		}
	} else {
		e.expires = time.Now().Add(c.ttl)
	}
	close(e.done)
}

// forget makes the next get resolve the name again.
func (c *images) forget(ref ImageRef) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.entries[ref]; e != nil && !e.expires.IsZero() {
		delete(c.entries, ref)
	}
}

// pruneLocked drops what has expired, once there is much: clients name images.
func (c *images) pruneLocked() {
	const many = 256
	if len(c.entries) < many {
		return
	}
	now := time.Now()
	for ref, e := range c.entries {
		if !e.expires.IsZero() && now.After(e.expires) {
			delete(c.entries, ref)
		}
	}
}

// resolveImage asks the backend what an image name stands for.
func (p *Pool) resolveImage(ref ImageRef, tell func(said string)) (image Image, err error) {
	if teller, ok := p.backend.(PullTeller); ok {
		image, err = teller.ResolveTelling(p.work(), ref, tell)
	} else {
		image, err = p.backend.Resolve(p.work(), ref)
	}
	if err != nil {
		return Image{}, p.backendError("container image "+ref.Name, err)
	}
	return image, nil
}

// backendError makes a failure one that the pool's callers know.
func (p *Pool) backendError(what string, err error) error {
	for _, known := range []error{ErrImage, ErrPlatform, ErrBackend, ErrLost, ErrClosed} {
		if errors.Is(err, known) {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	if p.work().Err() != nil {
		return fmt.Errorf("%w: %s: %w", ErrClosed, what, err)
	}
	return fmt.Errorf("%w: %s: %w", ErrLost, what, err)
}
