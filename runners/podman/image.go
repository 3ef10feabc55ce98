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
	return b.ResolveTelling(ctx, ref, func(string) {})
}

// ResolveTelling implements runners.PullTeller. Of several who wait for one pull,
// the one that began it is told.
func (b *Backend) ResolveTelling(ctx context.Context, ref runners.ImageRef, tell func(said string)) (runners.Image, error) {
	if ref.Name == runners.HostImage {
		return b.host.resolve()
	}
	if err := checkRef(ref); err != nil {
		return runners.Image{}, err
	}
	image, err := b.localImage(ctx, ref.Name)
	if err != nil && !answered(err) {
		return runners.Image{}, imageError(ref, err)
	}
	found := err == nil
	if found {
		private, err := b.images.private(tagged(ref.Name), image.ID)
		if err == nil && !private {
			err = b.images.use(image.ID)
		}
		if err != nil || !private {
			return image, imageError(ref, err)
		}
	}
	if found && strings.HasPrefix(image.ID, strings.TrimPrefix(ref.Name, "sha256:")) {
		return runners.Image{}, refusedError(ref, errors.New("name it as its registry does, since an ID does not tell which registry that is"))
	}
	// An image that somebody's password brought here is asked for once more, with
	// what this request has: its registry decides. What is here is not copied again.
	image, err = b.pulls.get(ctx, ref, func(ctx context.Context) (runners.Image, error) { return b.pull(ctx, ref, tell) })
	var slow *slowPullError
	if found && errors.Is(err, runners.ErrImage) && !errors.As(err, &slow) {
		return runners.Image{}, refusedError(ref, err)
	}
	return image, imageError(ref, err)
}

func checkRef(ref runners.ImageRef) error {
	switch {
	case ref.Name == "":
		return fmt.Errorf("%w: no image is named", runners.ErrImage)
	case ref.Password != "" && ref.Username == "":
		// The bindings would take the host's own credentials instead.
		return fmt.Errorf("%w: %s: there is a container-registry-password but no container-registry-username; set both", runners.ErrImage, ref.Name)
	}
	return nil
}

// imageError names the image and never the password.
func imageError(ref runners.ImageRef, err error) error {
	var slow *slowPullError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &slow), !answered(err) && !errors.Is(err, runners.ErrImage):
		return fmt.Errorf("container image %s: %w", ref.Name, err)
	}
	return fmt.Errorf("%w: %s is neither on this host nor can it be pulled; check its name and tag with `podman pull %s` there, "+
		"and, if its registry wants credentials, container-registry-username and container-registry-password: %s",
		runners.ErrImage, ref.Name, ref.Name, withoutPassword(ref, err))
}

// refusedError is about an image that is here, but not for everybody.
func refusedError(ref runners.ImageRef, err error) error {
	return fmt.Errorf("%w: %s is on this host since somebody pulled it with credentials, and its registry has not given it for those of this action "+
		"(container-registry-username and container-registry-password), or for none if there are none: %s",
		runners.ErrImage, ref.Name, withoutPassword(ref, err))
}

// withoutPassword is what an error says beside being an ErrImage.
func withoutPassword(ref runners.ImageRef, err error) string {
	text := strings.TrimPrefix(err.Error(), runners.ErrImage.Error()+": ")
	if ref.Password != "" {
		text = strings.ReplaceAll(text, ref.Password, "(hidden)")
	}
	return text
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

// tagged is the qualified name with the tag that podman adds.
func tagged(name string) string {
	name = qualified(name)
	if last := name[strings.LastIndex(name, "/")+1:]; strings.ContainsAny(last, ":@") {
		return name
	}
	return name + ":latest"
}
