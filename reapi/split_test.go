package reapi_test

import (
	"bytes"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"github.com/klauspost/compress/zstd"
	"google.golang.org/genproto/googleapis/bytestream"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/chunking"
)

// random returns bytes that are the same for the same seed.
func random(seed byte, n int) []byte {
	data := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(data)
	return data
}

// checkChunkingCapabilities: REAPI A19-A21.
func checkChunkingCapabilities(t *testing.T, c *repb.CacheCapabilities) {
	t.Helper()
	if !c.GetSplitBlobSupport() || !c.GetSpliceBlobSupport() {
		t.Errorf("split %t, splice %t", c.GetSplitBlobSupport(), c.GetSpliceBlobSupport())
	}
	avg := c.GetFastCdc_2020Params().GetAvgChunkSizeBytes()
	if avg < 1<<10 || avg > 1<<20 || avg&(avg-1) != 0 || c.GetFastCdc_2020Params().GetSeed() != 0 {
		t.Errorf("FastCDC %v", c.GetFastCdc_2020Params())
	}
	smallest, horizon := c.GetRepMaxCdcParams().GetMinChunkSizeBytes(), c.GetRepMaxCdcParams().GetHorizonSizeBytes()
	if smallest < 1<<10 || smallest > 1<<20 || horizon != 8*smallest || horizon > 8<<20 {
		t.Errorf("RepMaxCDC %v", c.GetRepMaxCdcParams())
	}
}

// clientChunkers are the chunking functions as a client makes them from what the
// server announces.
func clientChunkers(f *fixture) map[repb.ChunkingFunction_Value]chunking.Chunker {
	f.t.Helper()
	c, err := repb.NewCapabilitiesClient(f.conn).GetCapabilities(f.t.Context(), &repb.GetCapabilitiesRequest{})
	if err != nil {
		f.t.Fatal(err)
	}
	params := c.GetCacheCapabilities()
	avg := int(params.GetFastCdc_2020Params().GetAvgChunkSizeBytes())
	fast, err := chunking.NewFastCDC(chunking.FastCDCParams{Min: avg / 4, Avg: avg, Max: avg * 4, Seed: params.GetFastCdc_2020Params().GetSeed()})
	if err != nil {
		f.t.Fatal(err)
	}
	repMax, err := chunking.NewRepMaxCDC(chunking.RepMaxCDCParams{
		Min: int(params.GetRepMaxCdcParams().GetMinChunkSizeBytes()), Horizon: int(params.GetRepMaxCdcParams().GetHorizonSizeBytes()),
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return map[repb.ChunkingFunction_Value]chunking.Chunker{
		repb.ChunkingFunction_FAST_CDC_2020: fast,
		repb.ChunkingFunction_REP_MAX_CDC:   repMax,
	}
}

// checkSplit is what Bazel checks of an answer (REAPI C32), and that the chunks
// are there and are the blob (REAPI C30).
func checkSplit(t *testing.T, f *fixture, blob cas.Digest, resp *repb.SplitBlobResponse) {
	t.Helper()
	chunker := clientChunkers(f)[resp.GetChunkingFunction()]
	if chunker == nil || (len(resp.GetChunkDigests()) == 0) != (blob.Size() == 0) {
		t.Fatalf("%d chunks by %v", len(resp.GetChunkDigests()), resp.GetChunkingFunction())
	}
	var whole []byte
	for i, p := range resp.GetChunkDigests() {
		d, err := cas.FromProto(blob.Function().Proto(), p)
		if err != nil || d.Size() == 0 || d.Size() > chunker.MaxSize() {
			t.Fatalf("chunk %d is %v, %v", i, p, err)
		}
		data, err := f.read(&bytestream.ReadRequest{ResourceName: "blobs/" + d.Name()})
		if err != nil {
			t.Fatalf("chunk %d: %v", i, err)
		}
		whole = append(whole, data...)
	}
	if blob.Function().Sum(whole) != blob {
		t.Errorf("the %d chunks are not %v", len(resp.GetChunkDigests()), blob)
	}
}

// REAPI C29, C30, C32-C34: any blob, also one that no client uploaded.
func TestSplitBlob(t *testing.T) {
	f := newFixture(t)
	client := repb.NewContentAddressableStorageClient(f.conn)
	for _, fn := range []cas.Function{cas.SHA256, cas.BLAKE3} {
		for _, size := range []int{0, 1, 2<<20 + 1, 5 << 20} {
			blob, err := cas.PutBytes(t.Context(), f.instances[""].Store, fn, random(1, size))
			if err != nil {
				t.Fatal(err)
			}
			for asked, used := range map[repb.ChunkingFunction_Value]repb.ChunkingFunction_Value{
				repb.ChunkingFunction_UNKNOWN:       repb.ChunkingFunction_FAST_CDC_2020,
				repb.ChunkingFunction_FAST_CDC_2020: repb.ChunkingFunction_FAST_CDC_2020,
				repb.ChunkingFunction_REP_MAX_CDC:   repb.ChunkingFunction_REP_MAX_CDC,
				4711:                                repb.ChunkingFunction_FAST_CDC_2020,
			} {
				resp, err := client.SplitBlob(t.Context(), &repb.SplitBlobRequest{BlobDigest: blob.Proto(), DigestFunction: fn.Proto(), ChunkingFunction: asked})
				if err != nil || resp.GetChunkingFunction() != used {
					t.Fatalf("%v by %v: %v by %v", blob, asked, err, resp.GetChunkingFunction())
				}
				checkSplit(t, f, blob, resp)
				if single := size <= 512<<10; single != (len(resp.GetChunkDigests()) <= 1) {
					t.Errorf("%v by %v: %d chunks", blob, asked, len(resp.GetChunkDigests()))
				}
			}
		}
	}
}

// REAPI C30, 0.4, A24, A27, B5, B6.
func TestSplitBlobRefuses(t *testing.T) {
	f := newFixture(t)
	client := repb.NewContentAddressableStorageClient(f.conn)
	here := f.put(random(2, 3<<20))
	type request = repb.SplitBlobRequest
	requests := map[string]struct {
		req  *request
		want codes.Code
	}{
		"absent":             {&request{BlobDigest: digest("absent")}, codes.NotFound},
		"of nobody":          {&request{BlobDigest: here, InstanceName: "nobody"}, codes.InvalidArgument},
		"of another":         {&request{BlobDigest: here, InstanceName: "team/one"}, codes.NotFound},
		"in BLAKE3":          {&request{BlobDigest: here, DigestFunction: repb.DigestFunction_BLAKE3}, codes.NotFound},
		"in SHA1":            {&request{BlobDigest: here, DigestFunction: repb.DigestFunction_SHA1}, codes.InvalidArgument},
		"unknown function":   {&request{BlobDigest: here, DigestFunction: 4711}, codes.InvalidArgument},
		"of impossible size": {&request{BlobDigest: &repb.Digest{Hash: here.GetHash(), SizeBytes: math.MaxInt64}}, codes.NotFound},
	}
	for name, d := range badDigests() {
		requests["bad: "+name] = struct {
			req  *request
			want codes.Code
		}{&request{BlobDigest: d}, codes.InvalidArgument}
	}
	for name, tc := range requests {
		_, err := client.SplitBlob(t.Context(), tc.req)
		wantCode(t, name, err, tc.want)
	}
	// The store has room for 64 MiB.
	_, err := client.SplitBlob(t.Context(), &request{BlobDigest: f.put(random(3, 40<<20))})
	wantCode(t, "no room", err, codes.ResourceExhausted)
	if details := status.Convert(err).Details(); !slices.ContainsFunc(details, func(d any) bool { _, ok := d.(*errdetails.RetryInfo); return ok }) {
		t.Errorf("no room: no time to retry in %v", details)
	}
}

// REAPI C8, C35-C37, C41, K14: upload as a client does, then download as one.
func TestSpliceBlob(t *testing.T) {
	f := newFixture(t)
	client := repb.NewContentAddressableStorageClient(f.conn)
	decoder, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer decoder.Close()
	data := random(4, 6<<20)
	for i, fn := range []repb.ChunkingFunction_Value{repb.ChunkingFunction_FAST_CDC_2020, repb.ChunkingFunction_REP_MAX_CDC} {
		data[0] = byte(i) // another blob, of which most chunks are there
		blob := cas.SHA256.Sum(data)
		req := &repb.SpliceBlobRequest{BlobDigest: blob.Proto(), ChunkingFunction: fn}
		for chunk := range clientChunkers(f)[fn].Chunks(bytes.NewReader(data)) {
			req.ChunkDigests = append(req.ChunkDigests, f.put(bytes.Clone(chunk)))
		}
		for range 2 { // the second time it is present
			resp, err := client.SpliceBlob(t.Context(), req)
			if err != nil || !proto.Equal(resp.GetBlobDigest(), blob.Proto()) {
				t.Fatalf("%v: %v, %v", fn, resp, err)
			}
		}
		missing, err := client.FindMissingBlobs(t.Context(), &repb.FindMissingBlobsRequest{BlobDigests: []*repb.Digest{blob.Proto()}})
		if err != nil || len(missing.GetMissingBlobDigests()) > 0 {
			t.Errorf("%v: %v, %v", fn, missing, err)
		}
		if got, err := f.read(&bytestream.ReadRequest{ResourceName: "blobs/" + blob.Name()}); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%v: read %d bytes, %v", fn, len(got), err)
		}
		packed, err := f.read(&bytestream.ReadRequest{ResourceName: "compressed-blobs/zstd/" + blob.Name()})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := decoder.DecodeAll(packed, nil); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%v: read %d bytes compressed, %v", fn, len(got), err)
		}
		split, err := client.SplitBlob(t.Context(), &repb.SplitBlobRequest{BlobDigest: blob.Proto(), ChunkingFunction: fn})
		if err != nil || !slices.EqualFunc(split.GetChunkDigests(), req.GetChunkDigests(), func(a, b *repb.Digest) bool { return proto.Equal(a, b) }) {
			t.Errorf("%v: %d chunks, want %d; %v", fn, len(split.GetChunkDigests()), len(req.GetChunkDigests()), err)
		}
	}
}

// REAPI C29, C35, C38, 0.1, 0.4, 0.7, A24, A27.
func TestSpliceBlobRefuses(t *testing.T) {
	f := newFixture(t)
	client := repb.NewContentAddressableStorageClient(f.conn)
	a, b, both := f.put([]byte("aa")), f.put([]byte("bb")), digest("aabb")
	huge := &repb.Digest{Hash: both.GetHash(), SizeBytes: math.MaxInt64}
	type request = repb.SpliceBlobRequest
	type testCase struct {
		req  *request
		want codes.Code
	}
	digests := func(ds ...*repb.Digest) []*repb.Digest { return ds }
	requests := map[string]testCase{
		"missing chunk":     {&request{BlobDigest: both, ChunkDigests: digests(a, digest("cc"))}, codes.NotFound},
		"another's chunks":  {&request{BlobDigest: both, ChunkDigests: digests(a, b), InstanceName: "team/one"}, codes.NotFound},
		"of nobody":         {&request{BlobDigest: both, ChunkDigests: digests(a, b), InstanceName: "nobody"}, codes.InvalidArgument},
		"wrong order":       {&request{BlobDigest: both, ChunkDigests: digests(b, a)}, codes.InvalidArgument},
		"no chunks":         {&request{BlobDigest: both}, codes.InvalidArgument},
		"too few":           {&request{BlobDigest: both, ChunkDigests: digests(a)}, codes.InvalidArgument},
		"too many":          {&request{BlobDigest: both, ChunkDigests: digests(a, b, a)}, codes.InvalidArgument},
		"overflow":          {&request{BlobDigest: both, ChunkDigests: digests(huge, huge, a, b)}, codes.InvalidArgument},
		"itself":            {&request{BlobDigest: both, ChunkDigests: digests(both)}, codes.NotFound},
		"two functions":     {&request{BlobDigest: both, ChunkDigests: digests(a, cas.SHA1.Sum([]byte("bb")).Proto())}, codes.InvalidArgument},
		"only named in one": {&request{BlobDigest: both, ChunkDigests: digests(a, b), DigestFunction: repb.DigestFunction_BLAKE3}, codes.NotFound},
		"unknown function":  {&request{BlobDigest: both, ChunkDigests: digests(a, b), DigestFunction: 4711}, codes.InvalidArgument},
		"very many":         {&request{BlobDigest: digest(string(make([]byte, 1e5+1))), ChunkDigests: slices.Repeat(digests(f.put([]byte{0})), 1e5+1)}, codes.InvalidArgument},
		"above the store's": {&request{BlobDigest: &repb.Digest{Hash: both.GetHash(), SizeBytes: 3 << 20 * 1000}, ChunkDigests: slices.Repeat(digests(f.put(make([]byte, 3<<20))), 1000)}, codes.InvalidArgument},
	}
	for name, d := range badDigests() {
		requests["bad blob: "+name] = testCase{&request{BlobDigest: d, ChunkDigests: digests(a)}, codes.InvalidArgument}
		requests["bad chunk: "+name] = testCase{&request{BlobDigest: both, ChunkDigests: digests(a, b, d)}, codes.InvalidArgument}
	}
	for name, tc := range requests {
		_, err := client.SpliceBlob(t.Context(), tc.req)
		wantCode(t, name, err, tc.want)
	}
	missing, err := client.FindMissingBlobs(t.Context(), &repb.FindMissingBlobsRequest{BlobDigests: digests(both, digest("bbaa"))})
	if err != nil || len(missing.GetMissingBlobDigests()) != 2 {
		t.Errorf("a refused splice left something: %v, %v", missing, err)
	}
	for name, fn := range map[string]repb.ChunkingFunction_Value{"by nothing": 0, "by what we do not know": 4711} {
		_, err := client.SpliceBlob(t.Context(), &request{BlobDigest: both, ChunkDigests: digests(a, b), ChunkingFunction: fn})
		wantCode(t, name, err, codes.OK)
	}
	_, err = client.SpliceBlob(t.Context(), &request{BlobDigest: digest("")})
	wantCode(t, "the empty blob", err, codes.OK)
}
