package podman

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containers/podman/v5/pkg/bindings/images"

	"github.com/hearth-build/hearth/runners"
)

// Pulled is an image that was pulled ahead.
type Pulled struct {
	runners.Image

	// Digests are the names, each with a digest, that podman knows it by.
	Digests []string
}

// PullAhead pulls an image for the hearth that uses a data directory, or will: it
// may run meanwhile. The image is asked for though it is on the host, so that a tag
// that has moved is followed. It tells how that goes on.
func PullAhead(ctx context.Context, opts Options, ref runners.ImageRef, tell func(said string)) (pulled Pulled, err error) {
	opts = opts.withDefaults()
	if err := checkRef(ref); err != nil {
		return Pulled{}, err
	}
	if ref.Name == runners.HostImage {
		return Pulled{}, errors.New(`the image "host" is the host itself: there is nothing to pull`)
	}
	plan, err := planFor()
	if err != nil {
		return Pulled{}, err
	}
	service, err := serviceForNow(ctx, opts, plan)
	if err != nil {
		return Pulled{}, err
	}
	b := &Backend{opts: opts, log: opts.Logger, service: service, pulls: newPulls(opts.PullTimeout)}
	b.images = &imageRecords{dir: filepath.Join(opts.DataDir, ownDir, imagesDir)}
	defer func() {
		b.pulls.close()
		err = errors.Join(err, b.service.close(context.WithoutCancel(ctx)))
	}()
	if err := os.MkdirAll(b.images.dir, 0o700); err != nil {
		return Pulled{}, fmt.Errorf("the data directory cannot be used: %w", err)
	}
	image, err := b.pulls.get(ctx, ref, func(ctx context.Context) (runners.Image, error) { return b.pull(ctx, ref, tell) })
	if err != nil {
		return Pulled{}, imageError(ref, err)
	}
	digests, err := b.digests(ctx, image.ID)
	return Pulled{Image: image, Digests: digests}, err
}

// digests lists what podman knows an image by that does not change.
func (b *Backend) digests(ctx context.Context, id string) (digests []string, err error) {
	err = b.call(ctx, "look up the image "+id, func(ctx context.Context) error {
		report, err := images.GetImage(ctx, id, nil)
		if err == nil {
			digests = report.RepoDigests
		}
		return err
	})
	return digests, err
}

// temporaryService is one in a directory that goes with it.
type temporaryService struct {
	service

	dir string
}

// close implements service.
func (s temporaryService) close(ctx context.Context) error {
	return errors.Join(s.service.close(ctx), os.RemoveAll(s.dir))
}

// serviceForNow is the service that Open would use, or else one for a moment.
func serviceForNow(ctx context.Context, opts Options, plan hostPlan) (service, error) {
	conn, err := findService(ctx, opts, plan)
	if err != nil {
		return nil, err
	}
	if conn != nil {
		return foreignService{conn: conn}, nil
	}
	dir, err := os.MkdirTemp("", "hearth-doctor-")
	if err != nil {
		return nil, err
	}
	opts.DataDir = dir
	err = os.Mkdir(filepath.Join(dir, ownDir), 0o700)
	var own service
	if err == nil {
		own, err = startService(ctx, opts, plan)
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return temporaryService{own, dir}, nil
}
