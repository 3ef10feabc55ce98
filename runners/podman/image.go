package podman

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"

	"github.com/containers/podman/v5/pkg/bindings/images"

	"github.com/hearth-build/hearth/runners"
)

// Resolve implements runners.Backend.
func (b *Backend) Resolve(ctx context.Context, ref runners.ImageRef) (runners.Image, error) {
	if ref.Name == runners.HostImage {
		return b.host.resolve()
	}
	if ref.Name == "" {
		return runners.Image{}, fmt.Errorf("%w: no image is named", runners.ErrImage)
	}
	image, err := b.localImage(ctx, ref.Name)
	if err == nil || !answered(err) {
		return image, imageError(ref, err)
	}
	image, err = b.pulls.get(ctx, ref, func(ctx context.Context) (runners.Image, error) { return b.pull(ctx, ref) })
	return image, imageError(ref, err)
}

// imageError names the image and never the password.
func imageError(ref runners.ImageRef, err error) error {
	switch {
	case err == nil:
		return nil
	case !answered(err) && !errors.Is(err, runners.ErrImage):
		return fmt.Errorf("container image %s: %w", ref.Name, err)
	}
	text := strings.TrimPrefix(err.Error(), runners.ErrImage.Error()+": ")
	if ref.Password != "" {
		text = strings.ReplaceAll(text, ref.Password, "(hidden)")
	}
	return fmt.Errorf("%w: %s is neither on this host nor can it be pulled; check its name and tag with `podman pull %s` there, "+
		"and, if its registry wants credentials, container-registry-username and container-registry-password: %s",
		runners.ErrImage, ref.Name, ref.Name, text)
}

// localImage looks an image up in podman's store.
func (b *Backend) localImage(ctx context.Context, name string) (runners.Image, error) {
	image := runners.Image{Name: name}
	err := b.call(ctx, "look up the image", func(ctx context.Context) error {
		report, err := images.GetImage(ctx, name, nil)
		if err != nil {
			return err
		}
		image.ID = report.ID
		if report.Config != nil {
			image.Env = report.Config.Env
		}
		return nil
	})
	return image, err
}

// pull gets an image from its registry.
func (b *Backend) pull(ctx context.Context, ref runners.ImageRef) (runners.Image, error) {
	b.log.Info("pulling a container image", "image", ref.Name)
	opts := new(images.PullOptions).WithQuiet(true)
	if ref.Username != "" || ref.Password != "" {
		opts = opts.WithUsername(ref.Username).WithPassword(ref.Password)
	}
	name := qualified(ref.Name)
	err := b.call(ctx, "pull the image", func(ctx context.Context) error {
		pulled, err := images.Pull(ctx, name, opts)
		if err == nil && len(pulled) > 0 {
			name = pulled[len(pulled)-1]
		}
		return pullError(err)
	})
	if err != nil {
		return runners.Image{}, err
	}
	image, err := b.localImage(ctx, name)
	image.Name = ref.Name
	return image, err
}

// pullError tells what the registry refused, which the bindings report as plain
// text, from a service that broke off.
func pullError(err error) error {
	var broken *url.Error
	if err == nil || answered(err) || errors.As(err, &broken) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return err
	}
	return fmt.Errorf("%w: %w", runners.ErrImage, err)
}

// qualified adds what "docker://" references leave out: the registry, and the
// name space of Docker's own images.
func qualified(name string) string {
	registry, _, found := strings.Cut(name, "/")
	if found && (strings.ContainsAny(registry, ".:") || registry == "localhost") {
		return name
	}
	if !found {
		name = "library/" + name
	}
	return "docker.io/" + name
}
