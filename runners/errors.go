package runners

import "errors"

// What can be wrong. Compare with errors.Is; the text says what to do.
var (
	// ErrImage: the container image cannot be had; the client's mistake.
	ErrImage = errors.New("container image unavailable")
	// ErrPlatform: the platform properties cannot be satisfied here.
	ErrPlatform = errors.New("unsupported platform")
	// ErrBackend: there is no container engine to start runners with, and will
	// be none until somebody changes the host.
	ErrBackend = errors.New("container engine unavailable")
	// ErrLost: the runner broke while it was needed; trying again may help.
	ErrLost = errors.New("runner lost")
	// ErrNoCgroup: a container has no cgroup of its own, so that it can be neither
	// measured nor paused. That is no fault of the container.
	ErrNoCgroup = errors.New("containers have no cgroups of their own here")
	// ErrNoRunner: there is no runner of that name (any more).
	ErrNoRunner = errors.New("no such runner")
	// ErrStarting: the runner's container is being made.
	ErrStarting = errors.New("the runner is being started")
	// ErrClosed: the pool is shutting down.
	ErrClosed = errors.New("runner pool is shut down")
)
