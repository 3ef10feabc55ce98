package podman

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"

	"github.com/containers/podman/v5/pkg/specgen"
	"go.podman.io/storage/pkg/idtools"
	storage "go.podman.io/storage/types"

	"github.com/hearth-build/hearth/runners"
	"github.com/hearth-build/hearth/runners/rootless"
)

// UserNamespaces says which containers are in user namespaces.
type UserNamespaces string

// The choices. Containers of the image runners.HostImage never are: podman shows
// them the host's own files, whose owners it cannot map.
const (
	// UserNamespacesAuto: those of images, unless that does not work on this host.
	UserNamespacesAuto UserNamespaces = "auto"
	// UserNamespacesOn: those of images, or they do not start.
	UserNamespacesOn UserNamespaces = "on"
	// UserNamespacesOff: none.
	UserNamespacesOff UserNamespaces = "off"
)

// The IDs that all containers of images have, which are nobody else's: above those
// that systemd gives to users and to containers of its own. One range for all lets
// input roots be laid out once.
const (
	firstID = 2_000_000_000
	countID = 1 << 16
)

// userNamespaces are those of a Backend's containers.
type userNamespaces struct {
	// wanted: containers of images are in one. It turns false where that is not
	// required, once it is shown not to work.
	wanted   atomic.Bool
	required bool
	// shown: one was started, so that what fails later has other reasons. failed counts
	// those that only started without.
	shown  atomic.Bool
	failed atomic.Int32
}

// enoughFailures show that user namespaces cannot be had: one may have another cause.
const enoughFailures = 3

func (u *userNamespaces) open(opts Options) {
	_, ordinary := rootless.User() // all of whose containers are in one already
	// Others have the directory in which inputs are when they are not mapped.
	u.wanted.Store(opts.UserNamespaces != UserNamespacesOff && !ordinary && opts.Shared == "")
	u.required = opts.UserNamespaces == UserNamespacesOn
}

// root is the host's ID of a container's root.
func (u *userNamespaces) root(image runners.Image) int {
	if image.Name == runners.HostImage || !u.wanted.Load() {
		return 0
	}
	return firstID
}

// start starts a container in a user namespace if it is to have one. Only the attempt
// shows whether podman, the runtime, the kernel and the file system of images can do
// that together: where the first ones fail, and succeed without, there are none from
// then on.
func (b *Backend) start(ctx context.Context, s runners.Spec) (*instance, error) {
	root := b.users.root(s.Image)
	in, err := b.startAs(ctx, s, root)
	if root == 0 || b.users.required || b.users.shown.Load() {
		return in, err
	}
	if err == nil {
		b.users.shown.Store(true)
		return in, nil
	}
	if ctx.Err() != nil || errors.Is(err, runners.ErrImage) {
		return nil, err
	}
	in, plainErr := b.startAs(ctx, s, 0)
	if plainErr != nil {
		return nil, err
	}
	b.log.Warn("a container of an image did not start in a user namespace, and does without: root in it is the host's, "+
		"without its capabilities; --user-namespaces=off says that this is wanted, and =on that it is not", "runner", s.ID, "error", err)
	if b.users.failed.Add(1) == enoughFailures {
		b.users.wanted.Store(false)
		b.log.Warn("no container of an image is put into a user namespace any more", "failures", enoughFailures)
	}
	return in, nil
}

// mapTo puts a container into a user namespace whose root is an ID of the host.
func mapTo(g *specgen.SpecGenerator, root int) {
	ids := []idtools.IDMap{{ContainerID: 0, HostID: root, Size: countID}}
	g.UserNS = specgen.Namespace{NSMode: specgen.Private}
	g.IDMappings = &storage.IDMappingOptions{UIDMap: ids, GIDMap: ids}
}

// Root implements runners.Maps.
func (in *instance) Root() int { return in.root }

// giveToRoot makes directories the container's root's.
func (in *instance) giveToRoot(dirs ...string) error {
	for _, dir := range dirs {
		if err := os.Chown(dir, in.root, in.root); err != nil {
			return fmt.Errorf("give a directory of the container to its root: %w", err)
		}
	}
	return nil
}
