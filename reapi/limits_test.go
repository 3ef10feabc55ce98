package reapi_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/genproto/googleapis/bytestream"
	"google.golang.org/grpc/codes"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/actioncache"
	"github.com/hearth-build/hearth/cas/memory"
	"github.com/hearth-build/hearth/reapi"
	"github.com/hearth-build/hearth/reapi/execution"
)

// choosy is a store that does not take everything, or cannot be reached.
type choosy struct {
	cas.Store
	limits cas.Limits
	err    error
}

func (c *choosy) Limits(context.Context) (cas.Limits, error) { return c.limits, c.err }

func (c *choosy) FindMissing(ctx context.Context, ds []cas.Digest) ([]cas.Digest, error) {
	if c.err != nil {
		return nil, c.err
	}
	return c.Store.FindMissing(ctx, ds)
}

func newChoosy(t *testing.T, c *choosy) *fixture {
	c.Store = memory.New(1 << 20)
	return newFixtureOf(t, reapi.Instances{"": &execution.Instance{Store: c, Results: actioncache.NewMemory(1000)}})
}

// REAPI A3-A5, A18: what is announced is what the store takes.
func TestCapabilitiesOfALimitedStore(t *testing.T) {
	f := newChoosy(t, &choosy{limits: cas.Limits{Functions: []cas.Function{cas.BLAKE3, cas.MD5}, MaxBytes: 12345}})
	c, err := repb.NewCapabilitiesClient(f.conn).GetCapabilities(t.Context(), &repb.GetCapabilitiesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	both := []repb.DigestFunction_Value{repb.DigestFunction_BLAKE3, repb.DigestFunction_MD5}
	ca, ex := c.GetCacheCapabilities(), c.GetExecutionCapabilities()
	if !slices.Equal(ca.GetDigestFunctions(), both) || !slices.Equal(ex.GetDigestFunctions(), both) || ex.GetDigestFunction() != both[0] {
		t.Errorf("digest functions %v, %v, %v", ca.GetDigestFunctions(), ex.GetDigestFunctions(), ex.GetDigestFunction())
	}
	if ca.GetMaxCasBlobSizeBytes() != 12345 {
		t.Errorf("blobs of at most %d bytes", ca.GetMaxCasBlobSizeBytes())
	}
	f = newChoosy(t, &choosy{})
	_, err = repb.NewCapabilitiesClient(f.conn).GetCapabilities(t.Context(), &repb.GetCapabilitiesRequest{})
	wantCode(t, "a store without any digest function", err, codes.Internal)
}

// REAPI 0.5, 0.6, C6: a store that cannot be reached lacks nothing and has nothing.
func TestUnavailableStore(t *testing.T) {
	f := newChoosy(t, &choosy{err: fmt.Errorf("ask for it: %w", cas.ErrUnavailable)})
	unavailable := func(what string, err error) {
		t.Helper()
		wantCode(t, what, err, codes.Unavailable)
		if !hasRetryInfo(err) {
			t.Errorf("%s: %v does not say when to try again", what, err)
		}
	}
	_, err := repb.NewCapabilitiesClient(f.conn).GetCapabilities(t.Context(), &repb.GetCapabilitiesRequest{})
	unavailable("GetCapabilities", err)
	_, err = repb.NewContentAddressableStorageClient(f.conn).FindMissingBlobs(t.Context(), &repb.FindMissingBlobsRequest{BlobDigests: []*repb.Digest{digest("x")}})
	unavailable("FindMissingBlobs", err)
	_, err = bytestream.NewByteStreamClient(f.conn).QueryWriteStatus(t.Context(),
		&bytestream.QueryWriteStatusRequest{ResourceName: "uploads/u/blobs/" + cas.SHA256.Sum([]byte("x")).Name()})
	unavailable("QueryWriteStatus", err)
	f.run = func(context.Context, *execution.Task, execution.Report) *execution.Outcome {
		return &execution.Outcome{Err: fmt.Errorf("stage: %w", cas.ErrUnavailable)}
	}
	ops, err := f.execute(&repb.ExecuteRequest{ActionDigest: f.putMessage(&repb.Action{})})
	if err != nil {
		t.Fatal(err)
	}
	if code := codes.Code(response(t, ops).GetStatus().GetCode()); code != codes.Unavailable {
		t.Errorf("an execution without its store ends with %v", code)
	}
}
