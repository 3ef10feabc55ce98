package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/hearth-build/hearth/cas"
)

// maxStock and maxStockCalls bound what is made for the calls of a round: to
// make a small blob takes a client half as long as a server to store it, so it
// is done before. The round ends when the stock does.
const (
	maxStock      = 128 << 20
	maxStockCalls = 256
)

// batchUpdate uploads fresh blobs.
func (c *benchCasCmd) batchUpdate(_ context.Context, t *casTarget) (casWork, error) {
	maker, err := newBlobMaker(int64(c.SmallSize), false)
	if err != nil {
		return casWork{}, err
	}
	var stock []*repb.BatchUpdateBlobsRequest
	var used atomic.Int64
	fill := func() (int, error) {
		used.Store(0)
		stock = stock[:0]
		for range max(1, min(maxStockCalls, maxStock/(int64(c.Batch)*int64(c.SmallSize)))) {
			req := &repb.BatchUpdateBlobsRequest{InstanceName: t.instance}
			for range c.Batch {
				b, err := maker.next()
				if err != nil {
					return 0, err
				}
				req.Requests = append(req.Requests, &repb.BatchUpdateBlobsRequest_Request{
					Digest: b.digest.Proto(), Data: slices.Concat(b.prefix, b.tail),
				})
			}
			stock = append(stock, req)
		}
		return len(stock), nil
	}
	return casWork{stock: fill, call: func(ctx context.Context) error {
		return t.update(ctx, stock[used.Add(1)-1])
	}}, nil
}

// update uploads a batch, all of which must be taken.
func (t *casTarget) update(ctx context.Context, req *repb.BatchUpdateBlobsRequest) error {
	resp, err := t.blobs.BatchUpdateBlobs(ctx, req)
	if err != nil {
		return err
	}
	if len(resp.GetResponses()) != len(req.GetRequests()) {
		return fmt.Errorf("%d answers to a batch of %d blobs", len(resp.GetResponses()), len(req.GetRequests()))
	}
	for _, r := range resp.GetResponses() {
		if r.GetStatus().GetCode() != int32(codes.OK) {
			return status.ErrorProto(r.GetStatus())
		}
	}
	return nil
}

// put uploads blobs in as many batches as it takes.
func (t *casTarget) put(ctx context.Context, blobs ...[]byte) ([]*repb.Digest, error) {
	var digests []*repb.Digest
	req := &repb.BatchUpdateBlobsRequest{InstanceName: t.instance}
	size := 0
	for i, data := range blobs {
		d := cas.SHA256.Sum(data).Proto()
		digests = append(digests, d)
		req.Requests = append(req.Requests, &repb.BatchUpdateBlobsRequest_Request{Digest: d, Data: data})
		size += len(data)
		if i+1 < len(blobs) && len(req.GetRequests()) < putBatch && size+len(blobs[i+1]) < putBytes {
			continue
		}
		if err := t.update(ctx, req); err != nil {
			return nil, err
		}
		req.Requests, size = nil, 0
	}
	return digests, nil
}

const (
	putBatch = 1000
	putBytes = 2 << 20
)

// putRandom uploads different blobs of the small size.
func (c *benchCasCmd) putRandom(ctx context.Context, t *casTarget, n int) ([]*repb.Digest, error) {
	maker, err := newBlobMaker(int64(c.SmallSize), false)
	if err != nil {
		return nil, err
	}
	var blobs [][]byte
	for range n {
		b, err := maker.next()
		if err != nil {
			return nil, err
		}
		blobs = append(blobs, slices.Concat(b.prefix, b.tail))
	}
	return t.put(ctx, blobs...)
}

// batchRead reads ten batches in turns.
func (c *benchCasCmd) batchRead(ctx context.Context, t *casTarget) (casWork, error) {
	const batches = 10
	ds, err := c.putRandom(ctx, t, batches*c.Batch)
	if err != nil {
		return casWork{}, err
	}
	var calls atomic.Int64
	return casWork{call: func(ctx context.Context) error {
		from := int(calls.Add(1)%batches) * c.Batch
		resp, err := t.blobs.BatchReadBlobs(ctx, &repb.BatchReadBlobsRequest{InstanceName: t.instance, Digests: ds[from : from+c.Batch]})
		if err != nil {
			return err
		}
		for _, r := range resp.GetResponses() {
			if r.GetStatus().GetCode() != int32(codes.OK) || int64(len(r.GetData())) != r.GetDigest().GetSizeBytes() {
				return fmt.Errorf("of %v came %d bytes: %w", r.GetDigest(), len(r.GetData()), status.ErrorProto(r.GetStatus()))
			}
		}
		if len(resp.GetResponses()) != c.Batch {
			return fmt.Errorf("%d blobs came of a batch of %d", len(resp.GetResponses()), c.Batch)
		}
		return nil
	}}, nil
}

// find asks for the same digests over and over.
func find(t *casTarget, ds []*repb.Digest, missing int) casWork {
	req := &repb.FindMissingBlobsRequest{InstanceName: t.instance, BlobDigests: ds}
	return casWork{call: func(ctx context.Context) error {
		resp, err := t.blobs.FindMissingBlobs(ctx, req)
		if err != nil {
			return err
		}
		if got := len(resp.GetMissingBlobDigests()); got != missing {
			return fmt.Errorf("%d of %d digests are missing, not %d", got, len(ds), missing)
		}
		return nil
	}}
}

func (c *benchCasCmd) findPresent(ctx context.Context, t *casTarget) (casWork, error) {
	ds, err := c.putRandom(ctx, t, c.Digests)
	return find(t, ds, 0), err
}

func (c *benchCasCmd) findAbsent(_ context.Context, t *casTarget) (casWork, error) {
	maker, err := newBlobMaker(int64(c.SmallSize), false)
	if err != nil {
		return casWork{}, err
	}
	var ds []*repb.Digest
	for range c.Digests {
		b, err := maker.next()
		if err != nil {
			return casWork{}, err
		}
		ds = append(ds, b.digest.Proto())
	}
	return find(t, ds, len(ds)), nil
}

func (c *benchCasCmd) findOne(ctx context.Context, t *casTarget) (casWork, error) {
	if t.null { // which has everything
		return find(t, []*repb.Digest{cas.SHA256.Sum([]byte("x")).Proto()}, 0), nil
	}
	ds, err := c.putRandom(ctx, t, 1)
	return find(t, ds, 0), err
}

func (c *benchCasCmd) getCapabilities(_ context.Context, t *casTarget) (casWork, error) {
	client := repb.NewCapabilitiesClient(t.conn)
	return casWork{call: func(ctx context.Context) error {
		resp, err := client.GetCapabilities(ctx, &repb.GetCapabilitiesRequest{InstanceName: t.instance})
		if err == nil && len(resp.GetCacheCapabilities().GetDigestFunctions()) == 0 {
			err = errors.New("the server serves no digest function")
		}
		return err
	}}, nil
}
