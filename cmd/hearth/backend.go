package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/hearth-build/hearth/reapi/console"
	"github.com/hearth-build/hearth/runners"
	"github.com/hearth-build/hearth/runners/podman"
)

// lateBackend opens podman when it is first needed, and tries again the next
// time if that failed: the cache of a server without podman works, its actions
// say what is wrong, and nothing has to be restarted once it is mended.
type lateBackend struct {
	opts   podman.Options
	logger *slog.Logger

	mu      sync.Mutex // guards backend; held while it is being opened
	backend *podman.Backend
}

var (
	_ runners.Backend    = (*lateBackend)(nil)
	_ runners.PullTeller = (*lateBackend)(nil)
	_ console.Engine     = (*lateBackend)(nil)
)

func newLateBackend(opts podman.Options, logger *slog.Logger) *lateBackend {
	return &lateBackend{opts: opts, logger: logger}
}

// open connects to podman and removes what a crashed hearth left.
func (b *lateBackend) open(ctx context.Context) (*podman.Backend, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.backend != nil {
		return b.backend, nil
	}
	backend, err := podman.Open(ctx, b.opts)
	if err != nil {
		if errors.Is(err, runners.ErrBackend) {
			return nil, err
		}
		return nil, fmt.Errorf("%w: %w", runners.ErrBackend, err)
	}
	removed, err := backend.Sweep(ctx)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("remove what an earlier hearth left: %w", err), backend.Close(ctx))
	}
	if removed > 0 {
		b.logger.Info("removed what an earlier hearth left", "count", removed)
	}
	b.backend = backend
	return backend, nil
}

// Resolve implements runners.Backend.
func (b *lateBackend) Resolve(ctx context.Context, ref runners.ImageRef) (runners.Image, error) {
	return b.ResolveTelling(ctx, ref, func(string) {})
}

// ResolveTelling implements runners.PullTeller.
func (b *lateBackend) ResolveTelling(ctx context.Context, ref runners.ImageRef, tell func(said string)) (runners.Image, error) {
	backend, err := b.open(ctx)
	if err != nil {
		return runners.Image{}, err
	}
	return backend.ResolveTelling(ctx, ref, tell)
}

// Start implements runners.Backend.
func (b *lateBackend) Start(ctx context.Context, spec runners.Spec) (runners.Instance, error) {
	backend, err := b.open(ctx)
	if err != nil {
		return nil, err
	}
	return backend.Start(ctx, spec)
}

// Sweep implements runners.Backend.
func (b *lateBackend) Sweep(ctx context.Context) (int, error) {
	backend, err := b.open(ctx)
	if err != nil {
		return 0, err
	}
	return backend.Sweep(ctx)
}

// ready reports whether containers can be started now.
func (b *lateBackend) ready(ctx context.Context) error {
	backend, err := b.open(ctx)
	if err != nil {
		return err
	}
	return backend.Ready(ctx)
}

// RunLine implements console.Engine. It opens nothing.
func (b *lateBackend) RunLine(p runners.Platform, command runners.Command, from, to string) ([]string, error) {
	b.mu.Lock()
	backend := b.backend
	b.mu.Unlock()
	if backend == nil {
		return nil, errors.New("podman is not there yet")
	}
	return backend.RunLine(p, command, from, to)
}

// Close ends what was opened.
func (b *lateBackend) Close(ctx context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.backend == nil {
		return nil
	}
	return b.backend.Close(ctx)
}
