package tiered

import (
	"context"
	"errors"
	"slices"

	"github.com/hearth-build/hearth/cas"
)

// Store is a remote store behind a local one. Make one with New, and close it
// before its tiers.
type Store struct {
	options Options
	local   Local
	remote  cas.Store
	known   *known // to be in the remote store
	fetches *flights[cas.Digest, *window]
	uploads *flights[cas.Digest, cas.Getter]
}

var (
	_ cas.Store       = (*Store)(nil)
	_ cas.BatchPutter = (*Store)(nil)
	_ cas.BatchGetter = (*Store)(nil)
	_ cas.Linker      = (*Store)(nil)
	_ cas.Leaser      = (*Store)(nil)
	_ cas.Prefetcher  = (*Store)(nil)
	_ cas.Limiter     = (*Store)(nil)
)

// New returns the store that the tiers make up.
func New(options Options) (*Store, error) {
	if err := options.Validate(); err != nil {
		return nil, err
	}
	options = options.withDefaults()
	return &Store{
		options: options,
		local:   options.Local,
		remote:  options.Remote,
		known:   newKnown(options.RememberFor, options.RememberMost),
		fetches: newFlights[cas.Digest, *window](),
		uploads: newFlights[cas.Digest, cas.Getter](),
	}, nil
}

// Close ends the fetches and uploads that are under way. The tiers stay open.
func (s *Store) Close() error {
	s.fetches.close()
	s.uploads.close()
	return nil
}

// Lease implements cas.Leaser, in each tier that leases.
func (s *Store) Lease(ds []cas.Digest) (release func()) {
	releases := []func(){s.local.Lease(ds)}
	if l, ok := s.remote.(cas.Leaser); ok {
		releases = append(releases, l.Lease(ds))
	}
	return func() {
		for _, release := range slices.Backward(releases) {
			release()
		}
	}
}

// warn tells of a local tier that failed, where the remote store can stand in.
func (s *Store) warn(ctx context.Context, what string, d cas.Digest, err error) {
	s.options.Logger.WarnContext(ctx, "the local tier of the store failed, the remote one stands in",
		"operation", what, "digest", d.String(), "error", err)
}

// final tells whether an error of the local tier is an answer, and no failure.
func final(ctx context.Context, err error) bool {
	return err == nil || ctx.Err() != nil || errors.Is(err, cas.ErrOutOfRange)
}
