package tiered

import (
	"context"
	"sync"

	"github.com/hearth-build/hearth/cas"
)

// FindMissing implements cas.Finder. It answers for the remote tier, and brings
// back some of what only the local one still has.
func (s *Store) FindMissing(ctx context.Context, ds []cas.Digest) ([]cas.Digest, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	var ask []cas.Digest
	present := make(map[cas.Digest]struct{}, len(ds))
	for _, d := range ds {
		if _, again := present[d]; again || d.IsEmptyBlob() || s.known.has(d) {
			continue
		}
		present[d] = struct{}{}
		ask = append(ask, d)
	}
	if len(ask) == 0 {
		return nil, nil
	}
	missing, err := s.remote.FindMissing(ctx, ask)
	if err != nil {
		return nil, err
	}
	for _, d := range missing {
		delete(present, d)
	}
	for d := range present {
		s.known.add(d)
	}
	if len(missing) == 0 || s.options.RestoreBytes < 0 {
		return missing, nil
	}
	return s.restore(ctx, missing)
}

// restore uploads what the local tier has of the missing blobs, and returns what
// stays missing.
func (s *Store) restore(ctx context.Context, missing []cas.Digest) ([]cas.Digest, error) {
	absent, err := s.local.FindMissing(ctx, missing)
	if err != nil && ctx.Err() != nil {
		return nil, err
	}
	if err != nil {
		s.warn(ctx, "find", missing[0], err)
		return missing, nil
	}
	held := without(missing, absent)
	if len(held) == 0 {
		return absent, nil
	}
	defer s.local.Lease(held)()
	var fits []cas.Digest
	budget := s.options.RestoreBytes
	for _, d := range held {
		if d.Size() > budget {
			absent = append(absent, d)
			continue
		}
		budget -= d.Size()
		fits = append(fits, d)
	}
	var mu sync.Mutex // guards absent
	err = each(ctx, fits, func(ctx context.Context, d cas.Digest) error {
		if err := s.push(ctx, d, s.local); err != nil {
			s.options.Logger.WarnContext(ctx, "a blob that the remote store lost cannot be brought back", "digest", d.String(), "error", err)
			mu.Lock()
			defer mu.Unlock()
			absent = append(absent, d) // whoever asks will send it, and hear why not
		}
		return context.Cause(ctx)
	})
	if err != nil {
		return nil, err
	}
	return absent, nil
}

// without returns those of ds that are not in others.
func without(ds, others []cas.Digest) (left []cas.Digest) {
	out := make(map[cas.Digest]struct{}, len(others))
	for _, d := range others {
		out[d] = struct{}{}
	}
	for _, d := range ds {
		if _, ok := out[d]; !ok {
			left = append(left, d)
		}
	}
	return left
}
