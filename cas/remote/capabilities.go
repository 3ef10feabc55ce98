package remote

import (
	"context"
	"fmt"
	"slices"
	"time"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"

	"github.com/hearth-build/hearth/cas"
)

const (
	// maxMessage is what servers and clients of gRPC take, if nobody told them
	// otherwise, with room for what is around the blobs.
	maxMessage = 4<<20 - 64<<10
	// announcedFor is how long the server's word counts: it may be restarted with
	// another configuration.
	announcedFor = 5 * time.Minute
)

// announced is what the server says of itself.
type announced struct {
	functions  []repb.DigestFunction_Value // empty: not told
	readOnly   bool                        // it takes no action results
	batchBytes int64
	blobBytes  int64 // 0: any size
	zstd       bool  // in streams, and in batches that are read
	zstdBatch  bool  // in batches that are written
	at         time.Time
}

// announced returns what the server says of itself. It asks when it is first
// needed, and again from time to time.
func (s *Store) announced(ctx context.Context) (*announced, error) {
	select {
	case s.asking <- struct{}{}:
		defer func() { <-s.asking }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if s.known != nil && time.Since(s.known.at) < announcedFor {
		return s.known, nil
	}
	var answer *repb.ServerCapabilities
	err := s.retry(ctx, func(ctx context.Context) (err error) {
		answer, err = s.capabilities.GetCapabilities(ctx, &repb.GetCapabilitiesRequest{InstanceName: s.options.Instance}, s.callOptions...)
		if unsupported(err) { // as in servers that are a cache and nothing else
			err = nil
		}
		return err
	})
	switch {
	case err == nil:
		s.known = s.readAnnounced(answer.GetCacheCapabilities())
	case s.known == nil:
		return nil, fmt.Errorf("ask for the server's capabilities: %w", err)
	}
	s.known.at = time.Now() // an older word is better than none
	return s.known, nil
}

func (s *Store) readAnnounced(c *repb.CacheCapabilities) *announced {
	a := &announced{
		functions: c.GetDigestFunctions(), batchBytes: maxMessage, blobBytes: c.GetMaxCasBlobSizeBytes(),
		readOnly: c != nil && !c.GetActionCacheUpdateCapabilities().GetUpdateEnabled(),
	}
	if most := c.GetMaxBatchTotalSizeBytes(); most > 0 {
		a.batchBytes = min(most, a.batchBytes)
	}
	if !s.options.NoCompression {
		a.zstd = slices.Contains(c.GetSupportedCompressors(), repb.Compressor_ZSTD)
		a.zstdBatch = slices.Contains(c.GetSupportedBatchUpdateCompressors(), repb.Compressor_ZSTD)
	}
	return a
}

// Limits implements cas.Limiter.
func (s *Store) Limits(ctx context.Context) (cas.Limits, error) {
	if err := context.Cause(ctx); err != nil {
		return cas.Limits{}, err
	}
	a, err := s.announced(ctx)
	if err != nil {
		return cas.Limits{}, explain(ctx, "find out what the remote store takes", nil, err)
	}
	limits := cas.Limits{MaxBytes: a.blobBytes}
	for _, f := range cas.Functions() {
		if len(a.functions) == 0 || slices.Contains(a.functions, f.Proto()) {
			limits.Functions = append(limits.Functions, f)
		}
	}
	return limits, nil
}

// check refuses what the server would not take.
func (a *announced) check(d cas.Digest) error {
	if len(a.functions) > 0 && !slices.Contains(a.functions, d.Function().Proto()) {
		return fmt.Errorf("%w: the remote store does not serve %v, only %v", cas.ErrInvalidDigest, d.Function(), a.functions)
	}
	return nil
}

// checkSize refuses a blob that is over the server's limit.
func (a *announced) checkSize(d cas.Digest) error {
	if a.blobBytes > 0 && d.Size() > a.blobBytes {
		return fmt.Errorf("%w: %v, the remote store takes at most %d bytes", cas.ErrTooLarge, d, a.blobBytes)
	}
	return nil
}

// batched tells whether a blob goes into batches.
func (a *announced) batched(d cas.Digest) bool {
	return d.Size() <= min(smallBlob, a.batchBytes-perBlob)
}
