package remote

import (
	"context"
	"fmt"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"golang.org/x/sync/errgroup"

	"github.com/hearth-build/hearth/cas"
)

const (
	// findBytes keeps messages below the 1 MiB that some servers stop at.
	findBytes = 1<<20 - 64<<10
	// findCalls is how many of them are under way at once for one caller.
	findCalls = 4
	// perDigest is what a digest takes in a message besides its hash.
	perDigest = 20
)

// FindMissing implements cas.Finder.
func (s *Store) FindMissing(ctx context.Context, ds []cas.Digest) ([]cas.Digest, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	messages := split(ds)
	if len(messages) == 0 {
		return nil, nil
	}
	answers := make([][]cas.Digest, len(messages))
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(findCalls)
	for i, message := range messages {
		group.Go(func() (err error) {
			answers[i], err = s.find(groupCtx, message)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, explain(ctx, "find missing blobs", nil, err)
	}
	var missing []cas.Digest
	for _, a := range answers {
		missing = append(missing, a...)
	}
	return missing, nil
}

// split sorts digests into messages of one function each. Each digest is asked
// for once, and the empty blob never.
func split(ds []cas.Digest) (messages [][]cas.Digest) {
	type message struct {
		index, bytes int
	}
	open := map[cas.Function]message{}
	seen := make(map[cas.Digest]struct{}, len(ds))
	for _, d := range ds {
		if _, again := seen[d]; again || d.IsEmptyBlob() {
			continue
		}
		seen[d] = struct{}{}
		cost := len(d.Hash()) + perDigest
		m, begun := open[d.Function()]
		if !begun || m.bytes+cost > findBytes {
			m = message{index: len(messages)}
			messages = append(messages, nil)
		}
		m.bytes += cost
		messages[m.index] = append(messages[m.index], d)
		open[d.Function()] = m
	}
	return messages
}

// find asks for digests of one function.
func (s *Store) find(ctx context.Context, ds []cas.Digest) (missing []cas.Digest, err error) {
	if _, err := s.serves(ctx, ds[0]); err != nil {
		return nil, err
	}
	err = s.retry(ctx, func(ctx context.Context) error {
		missing, err = s.findOnce(ctx, ds)
		return err
	})
	return missing, err
}

func (s *Store) findOnce(ctx context.Context, ds []cas.Digest) ([]cas.Digest, error) {
	req := &repb.FindMissingBlobsRequest{InstanceName: s.options.Instance, DigestFunction: ds[0].Function().Proto()}
	for _, d := range ds {
		req.BlobDigests = append(req.BlobDigests, d.Proto())
	}
	resp, err := s.blobs.FindMissingBlobs(ctx, req, s.callOptions...)
	if err != nil {
		return nil, err
	}
	asked := make(map[blobKey]cas.Digest, len(ds))
	for _, d := range ds {
		asked[keyOf(d.Proto())] = d
	}
	var missing []cas.Digest
	for _, p := range resp.GetMissingBlobDigests() {
		d, ok := asked[keyOf(p)]
		if !ok {
			return nil, fmt.Errorf("the remote store says that %s/%d is missing, which it was not asked", p.GetHash(), p.GetSizeBytes())
		}
		if !d.IsZero() {
			missing = append(missing, d)
			asked[keyOf(p)] = cas.Digest{} // each once
		}
	}
	return missing, nil
}

// blobKey is a digest message that can be compared.
type blobKey struct {
	hash string
	size int64
}

func keyOf(p *repb.Digest) blobKey { return blobKey{p.GetHash(), p.GetSizeBytes()} }

// has tells whether one blob is there, in one call with others that are asked for
// at the same time.
func (s *Store) has(ctx context.Context, d cas.Digest) (bool, error) {
	found, err := s.batch(ctx, s.finds, entry{digest: d, cost: int64(len(d.Hash()) + perDigest), limit: findBytes})
	return len(found) > 0, err
}

// findBatch answers with one byte for what is there, and none for what is not.
func (s *Store) findBatch(ctx context.Context, batch []entry) {
	ds := make([]cas.Digest, 0, len(batch))
	unique := make(map[cas.Digest]bool, len(batch))
	for _, e := range batch {
		if !unique[e.digest] {
			ds = append(ds, e.digest)
			unique[e.digest] = true
		}
	}
	var missing []cas.Digest
	if err := s.once(ctx, func(ctx context.Context) (err error) {
		missing, err = s.findOnce(ctx, ds)
		return err
	}); err != nil {
		failAll(batch, err)
		return
	}
	for _, d := range missing {
		unique[d] = false
	}
	for _, e := range batch {
		var there []byte
		if unique[e.digest] {
			there = []byte{1}
		}
		e.answer <- answer{data: there}
	}
}
