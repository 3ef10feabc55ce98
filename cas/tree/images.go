package tree

import (
	"container/list"
	"context"
	"path/filepath"
	"strconv"
	"sync"
)

// images are those that are mounted. One that nobody uses any more stays for a
// while, since the next action may have the same input root.
type images struct {
	dir    string
	shelf  *shelf
	trash  *trash
	limits imageLimits

	mu    sync.Mutex // guards all below, and parts of each image
	byKey map[imageKey]*image
	idle  *list.List // of *image, the one used last in front
	bytes int64      // of all images
	made  int        // so far
}

// imageLimits bound what images that nobody uses may take.
type imageLimits struct {
	images int
	packs  int64 // bytes of images, and of small files; those in use included
	links  int64 // bytes of large files; those in use included
}

func newImages(dir string, s *shelf, t *trash, limits imageLimits) *images {
	return &images{dir: dir, shelf: s, trash: t, limits: limits, byKey: map[imageKey]*image{}, idle: list.New()}
}

// get returns a mounted image, which the caller puts back.
func (c *images) get(ctx context.Context, g *Graph, key imageKey) (*image, error) {
	for {
		img, mine := c.find(key)
		if mine {
			err := img.make(ctx, c.shelf, g)
			c.finish(img, err)
			return img, err
		}
		select {
		case <-img.ready:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		if img.err == nil && c.use(img) {
			return img, nil
		}
		// Whoever made it failed, perhaps as its client went away; or it was not
		// used for too long in this very moment.
	}
}

// find returns the image, or a new one that is the caller's to make and use.
func (c *images) find(key imageKey) (img *image, mine bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if img, ok := c.byKey[key]; ok {
		return img, false
	}
	c.made++
	img = &image{key: key, dir: filepath.Join(c.dir, strconv.Itoa(c.made)), ready: make(chan struct{}), users: 1}
	c.byKey[key] = img
	return img, true
}

// finish tells who waits for an image that was made.
func (c *images) finish(img *image, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if img.err = err; err != nil {
		delete(c.byKey, img.key)
	} else {
		c.bytes += img.bytes
	}
	close(img.ready)
}

// use counts a user, unless the image is gone.
func (c *images) use(img *image) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byKey[img.key] != img {
		return false
	}
	img.users++
	if img.idle != nil {
		c.idle.Remove(img.idle)
		img.idle = nil
	}
	return true
}

// put ends a use. Images that are too many go away in the background.
func (c *images) put(img *image) error {
	c.mu.Lock()
	if img.users--; img.users == 0 {
		img.idle = c.idle.PushFront(img)
	}
	c.mu.Unlock()
	return c.shrink(c.limits)
}

// shrink keeps the limits, as far as there are images that nobody uses.
func (c *images) shrink(limits imageLimits) error {
	for {
		img := c.oldest(limits)
		if img == nil {
			return c.shelf.trim(limits.packs, false)
		}
		unused := img.holding.forget()
		err := c.trash.later(chore{img.dir, func() error {
			if err := img.detach(); err != nil {
				return err // the links are left, too: it is still there
			}
			return c.shelf.unlinkAll(unused)
		}})
		if err != nil {
			return err
		}
	}
}

// oldest takes the image out that was not used for longest, if limits want it.
func (c *images) oldest(limits imageLimits) *image {
	c.mu.Lock()
	defer c.mu.Unlock()
	last := c.idle.Back()
	if last == nil {
		return nil
	}
	if c.idle.Len() <= limits.images && c.bytes <= limits.packs && !c.shelf.over(limits.packs, limits.links) {
		return nil
	}
	img := c.idle.Remove(last).(*image)
	img.idle = nil
	delete(c.byKey, img.key)
	c.bytes -= img.bytes
	return img
}

// inUse counts the images that have users.
func (c *images) inUse() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.byKey) - c.idle.Len()
}
