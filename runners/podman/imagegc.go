package podman

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/containers/podman/v5/pkg/bindings/images"
	"github.com/containers/podman/v5/pkg/bindings/system"
	"golang.org/x/sys/unix"
)

const (
	// imageLookEvery is how often it is looked for images to remove.
	imageLookEvery = 10 * time.Minute
	// imageRest is how long an image that was just wanted is kept though room is short.
	// It must be longer than a pool takes it for granted.
	imageRest = time.Hour
)

// tendImages removes images that hearth pulled and nobody wants, until ctx ends.
func (b *Backend) tendImages(ctx context.Context) {
	every := imageLookEvery
	if b.opts.ImageExpiry > 0 {
		every = min(every, b.opts.ImageExpiry)
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		if err := b.removeUnwanted(ctx); err != nil && ctx.Err() == nil {
			b.log.Warn("images that nobody wants could not be removed; they are tried again", "error", err)
		}
	}
}

// removeUnwanted removes images once.
func (b *Backend) removeUnwanted(ctx context.Context) error {
	all, err := b.images.list()
	if err != nil {
		return err
	}
	short := func() (bool, error) { return false, nil }
	if b.opts.ImageFree > 0 && len(all) > 0 {
		if short, err = b.roomShort(ctx); err != nil {
			return err
		}
	}
	var errs []error
	for _, image := range all {
		unwanted := time.Since(image.used)
		expired := b.opts.ImageExpiry > 0 && unwanted >= b.opts.ImageExpiry
		if !expired && unwanted < imageRest {
			continue
		}
		if !expired {
			if full, err := short(); err != nil || !full {
				errs = append(errs, err)
				continue
			}
		}
		gone, err := b.removeImage(ctx, image)
		if gone {
			b.log.Info("removed a container image", "names", image.Names, "id", image.id, "unwanted", unwanted.Round(time.Second))
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// roomShort returns what tells whether the file system of podman's images has less
// free than it should.
func (b *Backend) roomShort(ctx context.Context) (func() (bool, error), error) {
	var root string
	err := b.call(ctx, "ask where images are", func(ctx context.Context) error {
		info, err := system.Info(ctx, nil)
		if err == nil && info.Store != nil {
			root = info.Store.GraphRoot
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return func() (bool, error) {
		room, err := imageRoom(root)
		return err == nil && room < b.opts.ImageFree, err
	}, nil
}

// imageRoom is how many bytes podman's images have room for. Podman itself also counts
// what the file system keeps for root, which the root of a container host may not get.
func imageRoom(root string) (int64, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(root, &fs); err != nil {
		return 0, fmt.Errorf("how much room podman's images have in %q: %w", root, err)
	}
	return int64(fs.Bavail) * fs.Bsize, nil
}

// removeImage removes an image unless a container uses it, or somebody gave it
// another name, and tells whether it is gone.
func (b *Backend) removeImage(ctx context.Context, own ownImage) (gone bool, err error) {
	ctx, cancel := lingering(ctx, mutationPatience)
	defer cancel()
	tags, err := b.tagsOf(ctx, own.id)
	if err != nil && !noImage(err) {
		return false, err
	}
	if err == nil {
		if slices.ContainsFunc(tags, func(tag string) bool { return !slices.Contains(own.Names, tag) }) {
			return false, nil // somebody gave it another name
		}
		// By its ID podman refuses while it has several names; its last one takes it away.
		names := slices.DeleteFunc(slices.Clone(own.Names), func(name string) bool {
			return !slices.Contains(tags, name) && !strings.Contains(name, "@") // gone already, or another image's
		})
		if len(tags) == 0 {
			names = append(names, own.id)
		}
		for _, name := range names {
			if err := b.untag(ctx, name); err != nil {
				return false, err
			}
		}
		if _, err = b.tagsOf(ctx, own.id); !noImage(err) {
			return false, err // it stays, for somebody
		}
	}
	return true, b.images.forget(own.id)
}

// tagsOf lists the names of an image.
func (b *Backend) tagsOf(ctx context.Context, id string) (tags []string, err error) {
	err = b.call(ctx, "look up the image "+id, func(ctx context.Context) error {
		report, err := images.GetImage(ctx, id, nil)
		if err == nil {
			tags = report.RepoTags
		}
		return err
	})
	return tags, err
}

// untag takes a name from an image, which goes with the last of them. Images that
// containers use stay.
func (b *Backend) untag(ctx context.Context, name string) error {
	return b.call(ctx, "remove the image "+name, func(ctx context.Context) error {
		_, errs := images.Remove(ctx, []string{name}, nil)
		if len(errs) > 0 && (strings.Contains(errs[0].Error(), "image is in use by a container") || strings.Contains(errs[0].Error(), "image not known")) {
			return nil
		}
		// What podman refuses comes as plain text.
		return pullError(errors.Join(errs...))
	})
}
