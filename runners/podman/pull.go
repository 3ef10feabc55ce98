package podman

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/containers/podman/v5/pkg/bindings/images"

	"github.com/hearth-build/hearth/runners"
)

// slowPullError is the end of a pull that took too long.
type slowPullError struct{ after time.Duration }

// Error implements error.
func (e *slowPullError) Error() string {
	return fmt.Sprintf("its pull took more than %v (--pull-timeout) and was given up; pull it ahead with `hearth doctor --pull`, "+
		"allow more time, or see whether its registry is well", e.after)
}

// Unwrap makes it an image that cannot be had.
func (e *slowPullError) Unwrap() error { return runners.ErrImage }

// pull gets an image from its registry, and records that it did.
func (b *Backend) pull(ctx context.Context, ref runners.ImageRef, tell func(said string)) (runners.Image, error) {
	b.log.Info("pulling a container image", "image", ref.Name)
	before, err := b.imageIDs(ctx)
	if err != nil {
		return runners.Image{}, err
	}
	pending, err := b.images.begin(tagged(ref.Name), ref.Username != "")
	if err != nil {
		return runners.Image{}, err
	}
	id, err := b.download(ctx, ref, tell)
	if err != nil {
		if errors.Is(err, runners.ErrImage) && ctx.Err() == nil {
			err = errors.Join(err, b.images.end(pending))
		} // else nobody knows whether it came: Sweep looks.
		return runners.Image{}, err
	}
	image, err := b.localImage(ctx, id)
	if err != nil {
		return runners.Image{}, err
	}
	image.Name = ref.Name
	return image, b.images.pulled(pending, image.ID, before[image.ID])
}

// download returns the ID of the image that podman pulled. What is here of it is
// not downloaded again, but its registry is asked in any case.
func (b *Backend) download(ctx context.Context, ref runners.ImageRef, tell func(said string)) (id string, err error) {
	opts := new(images.PullOptions).WithPolicy("always").WithProgressWriter(&lines{tell: tell})
	if ref.Username != "" {
		opts = opts.WithUsername(ref.Username).WithPassword(ref.Password)
	}
	err = b.call(ctx, "pull the image", func(ctx context.Context) error {
		pulled, err := images.Pull(ctx, qualified(ref.Name), opts)
		switch {
		case ctx.Err() != nil:
			// The bindings say so in one way or another, or not at all.
			return context.Cause(ctx)
		case err != nil:
			return pullError(err)
		case len(pulled) == 0:
			return io.ErrUnexpectedEOF // the service ended
		}
		id = pulled[len(pulled)-1]
		return nil
	})
	return id, err
}

// imageIDs are those of all images in podman's store.
func (b *Backend) imageIDs(ctx context.Context) (map[string]bool, error) {
	ids := map[string]bool{}
	err := b.call(ctx, "list the images", func(ctx context.Context) error {
		all, err := images.List(ctx, new(images.ListOptions).WithAll(true))
		for _, image := range all {
			ids[image.ID] = true
		}
		return err
	})
	return ids, err
}

// settlePulls finds out what came of the pulls of an earlier hearth.
func (b *Backend) settlePulls(ctx context.Context) error {
	pending, err := b.images.pending()
	if err != nil {
		return err
	}
	for _, p := range pending {
		image, err := b.localImage(ctx, p.Name)
		switch {
		case err == nil:
			err = b.images.pulled(p, image.ID, false)
		case answered(err):
			err = b.images.end(p)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// lines passes whole lines on.
type lines struct {
	tell func(line string)
	rest []byte
}

// Write implements io.Writer.
func (l *lines) Write(b []byte) (int, error) {
	l.rest = append(l.rest, b...)
	for {
		line, rest, found := bytes.Cut(l.rest, []byte("\n"))
		if !found {
			return len(b), nil
		}
		l.rest = rest
		if text := strings.TrimSpace(string(line)); text != "" {
			l.tell(text)
		}
	}
}
