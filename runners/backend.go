package runners

import (
	"context"
	"io"
	"time"

	"github.com/hearth-build/hearth/execserver"
)

// What is the exec server's, under the names that this package's users know.
type (
	Command    = execserver.Command
	StartError = execserver.StartError

	WorkerCommand = execserver.WorkerCommand
	Worker        = execserver.Worker
	WorkerError   = execserver.WorkerError
)

// Backend makes runners. Implementations pass the suite in runnertest. All
// methods are safe for concurrent use.
type Backend interface {
	// Resolve finds out what an image name means now, pulling the image if the
	// host lacks it. Concurrent calls for one name share one pull, and a caller
	// that gives up does not abort the pull of the others. An image that is on the
	// host because of somebody's credentials is given to those alone for whose its
	// registry gives it now. An image that cannot be had: ErrImage.
	Resolve(ctx context.Context, ref ImageRef) (Image, error)
	// Start makes and starts a container that is ready to run commands.
	// On error nothing is left behind.
	Start(ctx context.Context, spec Spec) (Instance, error)
	// Sweep removes what earlier processes with the same data directory left
	// (containers, mounts, directories of runners) and says how many it removed.
	Sweep(ctx context.Context) (int, error)
}

// PullTeller is a Backend that can tell how a pull goes on.
type PullTeller interface {
	// ResolveTelling is Backend.Resolve. It calls tell, from one goroutine at a time
	// and until the pull has ended, with words that follow "pulling container image X: ".
	ResolveTelling(ctx context.Context, ref ImageRef, tell func(said string)) (Image, error)
}

// Instance is one running container.
type Instance interface {
	Runs
	Freezes
	Weighs
	// CPUTime is what the container used since it was started.
	CPUTime(ctx context.Context) (time.Duration, error)
	// Remove ends every process of the container, frozen or not, and removes
	// all that Start made. It can be repeated after an error.
	Remove(ctx context.Context) error
}

// Runs runs commands, one at a time.
type Runs interface {
	// Run runs cmd to its end and returns when none of its processes is left.
	// What it prints goes to stdout and stderr. Cancelling ctx kills it.
	// *execserver.StartError: nothing was run. Any other error: the instance is
	// in doubt and must be removed. A container that the kernel ended for lack
	// of memory is no error, but a result with Memory.Kills: its last.
	Run(ctx context.Context, cmd Command, stdout, stderr io.Writer) (Result, error)
}

// Lends is an Instance that can keep a command running from one action to the next.
type Lends interface {
	// Work lends a worker for the time of talk, as execserver.Client.Work does. Errors
	// are those of Run, and a *WorkerError.
	Work(ctx context.Context, cmd WorkerCommand, stderr io.Writer, talk func(Worker) error) (Result, error)
}

// Freezes stops and continues all processes of a container.
type Freezes interface {
	// Freeze returns when no process of the container runs any more.
	Freeze(ctx context.Context) error
	// Thaw undoes Freeze.
	Thaw(ctx context.Context) error
}

// Maps is an Instance that can be in a user namespace.
type Maps interface {
	// Root is, on the host, the ID of root in the container, which all others follow;
	// 0: they are the host's own.
	Root() int
}

// RootOf is the Root of an instance, if it can be another than the host's.
func RootOf(instance Instance) int {
	if mapped, ok := instance.(Maps); ok {
		return mapped.Root()
	}
	return 0
}

// Weighs tells what a container holds. A backend that cannot says 0.
type Weighs interface {
	// Memory of its processes, and of its file systems that are in memory.
	Memory(ctx context.Context) (int64, error)
	// Drift is what its own file system has beside the image. The work directory is
	// no part of it.
	Drift(ctx context.Context) (Drift, error)
}

// Drift is the difference between a file system and the image it began as.
type Drift struct {
	Bytes int64
	Files int // entries of any kind
}

// ImageRef is what a platform asks for.
type ImageRef struct {
	// Name is HostImage, or a registry reference without "docker://".
	Name string
	// Username and Password for the registry, if any; never logged.
	Username, Password string
}

// HostImage names the container image that is the host's own root file system
// (or the directory that the server was told to use for it).
const HostImage = "host"

// Image is what an ImageRef turned out to be.
type Image struct {
	// Name as asked for.
	Name string
	// ID is immutable: another ID is another image.
	ID string
	// Env is what the image declares, as NAME=VALUE.
	Env []string
}

// Spec says what container to start.
type Spec struct {
	// ID is the runner's, unique among all of the host's; a valid container name.
	ID string
	// Image to start from.
	Image Image
	// Dir is an existing, empty host directory for this runner alone. The
	// backend shows Dir/WorkDirName to the container as ContainerWorkDir and
	// may use other names in Dir for itself (not starting with "work").
	Dir string
	// Network of the container: NetworkOff, NetworkBridge or NetworkHost.
	Network string
}

// The networks that a container can have.
const (
	NetworkOff    = "off"
	NetworkBridge = "bridge"
	NetworkHost   = "host"
)

// Where a runner's files are: Spec.Dir/WorkDirName on the host is
// ContainerWorkDir in every container, so that outputs do not depend on which
// runner made them. Start creates it, owned by the container's root, with mode 0755. New mounts
// below it on the host become visible inside.
const (
	WorkDirName      = "work"
	ContainerWorkDir = "/hearth/work"
)

// ContainerSharedDir is where a container has the directory that all runners of a
// backend share with the host, if there is one.
const ContainerSharedDir = "/hearth/build"
