package remote

import (
	"bytes"
	"context"
	"fmt"
	"io"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"

	"github.com/hearth-build/hearth/cas"
)

// Get implements cas.Getter. Small blobs come in batches, others as streams that
// go on where they broke off.
func (s *Store) Get(ctx context.Context, d cas.Digest, offset int64) (io.ReadCloser, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	if offset < 0 || offset > d.Size() {
		return nil, fmt.Errorf("%w: offset %d of %v", cas.ErrOutOfRange, offset, d)
	}
	if d.IsEmptyBlob() {
		return io.NopCloser(bytes.NewReader(nil)), nil
	}
	r, err := s.open(ctx, d, offset)
	if err != nil {
		return nil, explain(ctx, what("read", d), absent(d), err)
	}
	return r, nil
}

func absent(d cas.Digest) error { return &cas.MissingError{Digests: []cas.Digest{d}} }

func (s *Store) open(ctx context.Context, d cas.Digest, offset int64) (io.ReadCloser, error) {
	a, err := s.serves(ctx, d)
	if err != nil {
		return nil, err
	}
	if !a.batched(d) {
		r := &reader{store: s, ctx: ctx, digest: d, offset: offset, packed: a.zstd, tries: s.attempts()}
		return r, r.connect()
	}
	data, err := s.batch(ctx, s.reads, entry{digest: d, cost: d.Size() + perBlob, limit: a.batchBytes})
	if err != nil {
		return nil, err
	}
	return io.NopCloser(bytes.NewReader(data[offset:])), nil
}

// readBatch answers with the blobs' bytes.
func (s *Store) readBatch(ctx context.Context, batch []entry) {
	err := s.once(ctx, func(ctx context.Context) error { return s.readOnce(ctx, batch) })
	if err != nil {
		failAll(batch, err)
	}
}

func (s *Store) readOnce(ctx context.Context, batch []entry) error {
	a, err := s.announced(ctx)
	if err != nil {
		return err
	}
	req := &repb.BatchReadBlobsRequest{InstanceName: s.options.Instance, DigestFunction: batch[0].digest.Function().Proto()}
	if a.zstd {
		req.AcceptableCompressors = []repb.Compressor_Value{repb.Compressor_ZSTD}
	}
	asked := make(map[cas.Digest]bool, len(batch))
	for _, e := range batch {
		if !asked[e.digest] {
			asked[e.digest] = true
			req.Digests = append(req.Digests, e.digest.Proto())
		}
	}
	resp, err := s.blobs.BatchReadBlobs(ctx, req, s.callOptions...)
	if err != nil {
		return err
	}
	answers := make(map[blobKey]answer, len(batch))
	for _, r := range resp.GetResponses() {
		answers[keyOf(r.GetDigest())] = s.readAnswer(r)
	}
	for _, e := range batch {
		a, ok := answers[keyOf(e.digest.Proto())]
		if !ok {
			a.err = unanswered(e.digest)
		}
		e.answer <- a
	}
	return nil
}

func (s *Store) readAnswer(r *repb.BatchReadBlobsResponse_Response) answer {
	if err := statusError(r.GetStatus()); err != nil {
		return answer{err: err}
	}
	data, size := r.GetData(), r.GetDigest().GetSizeBytes()
	switch r.GetCompressor() {
	case repb.Compressor_IDENTITY:
	case repb.Compressor_ZSTD:
		var err error
		if data, err = s.zstd.unpack(data, min(size, smallBlob)); err != nil {
			return answer{err: err}
		}
	default:
		return answer{err: fmt.Errorf("the remote store sent a blob compressed by %v, which it was not asked for", r.GetCompressor())}
	}
	if int64(len(data)) != size {
		return answer{err: fmt.Errorf("%w: %d bytes of %d", errShort, len(data), size)}
	}
	return answer{data: data}
}
