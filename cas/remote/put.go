package remote

import (
	"context"
	"fmt"
	"io"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"

	"github.com/hearth-build/hearth/cas"
)

// Put implements cas.Putter. Of a large content, which can be read once, the last
// few MiB are kept in memory, to go on after a break: Upload needs no memory.
func (s *Store) Put(ctx context.Context, c *cas.Content) error {
	d := c.Digest()
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if d.IsEmptyBlob() {
		return nil
	}
	return explain(ctx, what("store", d), nil, s.put(ctx, c))
}

func (s *Store) put(ctx context.Context, c *cas.Content) error {
	d := c.Digest()
	a, err := s.takes(ctx, d)
	if err != nil {
		return err
	}
	if there, err := s.has(ctx, d); there || err != nil {
		return err
	}
	if a.batched(d) {
		data, err := c.Bytes()
		if err != nil {
			return fmt.Errorf("%w: %w", errSource, err)
		}
		return s.putSmall(ctx, d, data)
	}
	source := newReplay(c)
	// Compressed uploads cannot go on after a break, only start again.
	return s.upload(ctx, d, source.open, a.zstd && d.Size() <= replayBytes)
}

// Upload stores a blob that another store has. Unlike a Put it can go back to any
// byte of it. The server checks the hash.
func (s *Store) Upload(ctx context.Context, d cas.Digest, from cas.Getter) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if d.IsEmptyBlob() {
		return nil
	}
	return explain(ctx, what("upload", d), nil, s.uploadFrom(ctx, d, from))
}

func (s *Store) uploadFrom(ctx context.Context, d cas.Digest, from cas.Getter) error {
	a, err := s.takes(ctx, d)
	if err != nil {
		return err
	}
	if a.batched(d) {
		data, err := cas.ReadAll(ctx, from, d, smallBlob)
		if err != nil {
			return fmt.Errorf("%w: %w", errSource, err)
		}
		return s.putSmall(ctx, d, data)
	}
	open := func(ctx context.Context, offset int64) (io.ReadCloser, error) { return from.Get(ctx, d, offset) }
	return s.upload(ctx, d, open, a.zstd)
}

// takes returns what the server announces, if it takes the blob.
func (s *Store) takes(ctx context.Context, d cas.Digest) (*announced, error) {
	a, err := s.serves(ctx, d)
	if err != nil {
		return nil, err
	}
	return a, a.checkSize(d)
}

// putSmall sends a blob in a batch.
func (s *Store) putSmall(ctx context.Context, d cas.Digest, data []byte) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	a, err := s.announced(ctx)
	if err != nil {
		return err
	}
	_, err = s.batch(ctx, s.updates, entry{digest: d, data: data, cost: d.Size() + perBlob, limit: a.batchBytes})
	return err
}

// updateBatch answers with nothing but errors.
func (s *Store) updateBatch(ctx context.Context, batch []entry) {
	err := s.once(ctx, func(ctx context.Context) error { return s.updateOnce(ctx, batch) })
	if err != nil {
		failAll(batch, err)
	}
}

func (s *Store) updateOnce(ctx context.Context, batch []entry) error {
	a, err := s.announced(ctx)
	if err != nil {
		return err
	}
	req := &repb.BatchUpdateBlobsRequest{InstanceName: s.options.Instance, DigestFunction: batch[0].digest.Function().Proto()}
	sent := make(map[cas.Digest]bool, len(batch))
	for _, e := range batch {
		if sent[e.digest] {
			continue
		}
		sent[e.digest] = true
		r := &repb.BatchUpdateBlobsRequest_Request{Digest: e.digest.Proto(), Data: e.data}
		if a.zstdBatch {
			if packed, ok := s.zstd.pack(e.data); ok {
				r.Data, r.Compressor = packed, repb.Compressor_ZSTD
			}
		}
		req.Requests = append(req.Requests, r)
	}
	resp, err := s.blobs.BatchUpdateBlobs(ctx, req, s.callOptions...)
	if err != nil {
		return err
	}
	answers := make(map[blobKey]error, len(batch))
	for _, r := range resp.GetResponses() {
		answers[keyOf(r.GetDigest())] = statusError(r.GetStatus())
	}
	for _, e := range batch {
		err, ok := answers[keyOf(e.digest.Proto())]
		if !ok {
			err = unanswered(e.digest)
		}
		e.answer <- answer{err: err}
	}
	return nil
}
