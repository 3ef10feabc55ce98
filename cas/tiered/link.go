package tiered

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/hearth-build/hearth/cas"
)

// Link implements cas.Linker by the local tier. A blob that only the remote tier
// has is fetched first.
func (s *Store) Link(ctx context.Context, d cas.Digest, dirFD int, name string, executable bool) error {
	linker, ok := s.local.(cas.Linker)
	if !ok {
		return fmt.Errorf("%w: the local tier has no files", cas.ErrCannotLink)
	}
	err := linker.Link(ctx, d, dirFD, name, executable)
	if err == nil || !errors.Is(err, cas.ErrNotFound) {
		return err
	}
	defer s.local.Lease([]cas.Digest{d})()
	kept, err := s.bring(ctx, d)
	if err != nil {
		return err
	}
	if kept != nil {
		return fmt.Errorf("%w: the local tier does not keep it: %w", cas.ErrCannotLink, kept)
	}
	return linker.Link(ctx, d, dirFD, name, executable)
}

// bring fetches a blob into the local tier. kept is why it is not there although
// the remote tier has it.
func (s *Store) bring(ctx context.Context, d cas.Digest) (kept, err error) {
	f, err := s.joinFetch(ctx, d, func(*window) {})
	if err != nil {
		return nil, err
	}
	defer s.fetches.leave(d, f)
	if err := f.wait(ctx); err != nil {
		return nil, err
	}
	return f.value.wasKept(), nil
}

// Prefetch implements cas.Prefetcher. What the local tier does not keep is no
// error: it is read remotely.
func (s *Store) Prefetch(ctx context.Context, ds []cas.Digest) error {
	absent, err := s.local.FindMissing(ctx, ds)
	if err != nil {
		return err
	}
	var mu sync.Mutex // guards missing
	var missing []cas.Digest
	err = each(ctx, absent, func(ctx context.Context, d cas.Digest) error {
		_, err := s.bring(ctx, d)
		if errors.Is(err, cas.ErrNotFound) {
			mu.Lock()
			defer mu.Unlock()
			missing = append(missing, d)
			return nil
		}
		return err
	})
	if err != nil {
		return err
	}
	if len(missing) > 0 {
		return &cas.MissingError{Digests: missing}
	}
	return nil
}
