package reapi_test

import (
	"slices"
	"testing"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/hearth-build/hearth/cas"
)

// chunkSeeds are requests that a fuzzer can learn from, with the blobs of which
// they speak in the store.
func chunkSeeds(f *fixture) (splits, splices []proto.Message) {
	a, b, large := f.put([]byte("aa")), f.put([]byte("bb")), f.put(random(5, 3<<20))
	blobs := []*repb.Digest{a, large, digest(""), digest("absent"), {Hash: a.GetHash(), SizeBytes: 1 << 62}}
	for _, d := range badDigests() {
		blobs = append(blobs, d)
	}
	for i, d := range blobs {
		splits = append(splits, &repb.SplitBlobRequest{BlobDigest: d, ChunkingFunction: repb.ChunkingFunction_Value(i % 4)})
		splices = append(splices, &repb.SpliceBlobRequest{BlobDigest: digest("aabb"), ChunkDigests: []*repb.Digest{a, d, b}})
		splices = append(splices, &repb.SpliceBlobRequest{BlobDigest: d, ChunkDigests: []*repb.Digest{a}, DigestFunction: repb.DigestFunction_SHA256})
	}
	splits = append(splits, &repb.SplitBlobRequest{BlobDigest: large, InstanceName: "team/one", DigestFunction: repb.DigestFunction_BLAKE3})
	splices = append(splices,
		&repb.SpliceBlobRequest{BlobDigest: digest("aabb"), ChunkDigests: []*repb.Digest{a, b}, ChunkingFunction: 1},
		&repb.SpliceBlobRequest{BlobDigest: digest("aaaaaa"), ChunkDigests: []*repb.Digest{a, a, digest(""), a}})
	return splits, splices
}

func addSeeds(f *testing.F, seeds []proto.Message) {
	f.Helper()
	for _, m := range seeds {
		data, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
}

// wantOneOf fails unless err is a client's mistake, an absent blob, a full store
// or nothing: none may crash, hang or be the server's fault (REAPI 0.4).
func wantOneOf(t *testing.T, err error) {
	t.Helper()
	if got := status.Code(err); !slices.Contains([]codes.Code{codes.OK, codes.InvalidArgument, codes.NotFound, codes.ResourceExhausted}, got) {
		t.Error(err)
	}
}

// FuzzSplitRequest: any request is answered, and each answer is one that a client
// can use (REAPI C30, C32, 0.4).
func FuzzSplitRequest(f *testing.F) {
	fix := newFixture(f)
	splits, _ := chunkSeeds(fix)
	addSeeds(f, splits)
	client := repb.NewContentAddressableStorageClient(fix.conn)
	f.Fuzz(func(t *testing.T, data []byte) {
		req := &repb.SplitBlobRequest{}
		if proto.Unmarshal(data, req) != nil {
			return
		}
		resp, err := client.SplitBlob(t.Context(), req)
		wantOneOf(t, err)
		if err != nil || req.GetInstanceName() != "" {
			return
		}
		blob, err := cas.FromProto(req.GetDigestFunction(), req.GetBlobDigest())
		if err != nil {
			t.Fatalf("a malformed digest was split: %v", err)
		}
		inner := *fix
		inner.t = t
		checkSplit(t, &inner, blob, resp)
	})
}

// FuzzSpliceRequest: any request is answered, and what was spliced is there and is
// what its digest says (REAPI 0.1, C35, C38).
func FuzzSpliceRequest(f *testing.F) {
	fix := newFixture(f)
	_, splices := chunkSeeds(fix)
	addSeeds(f, splices)
	client := repb.NewContentAddressableStorageClient(fix.conn)
	f.Fuzz(func(t *testing.T, data []byte) {
		req := &repb.SpliceBlobRequest{}
		if proto.Unmarshal(data, req) != nil {
			return
		}
		resp, err := client.SpliceBlob(t.Context(), req)
		wantOneOf(t, err)
		if err != nil {
			return
		}
		blob, err := cas.FromProto(req.GetDigestFunction(), resp.GetBlobDigest())
		if err != nil || !proto.Equal(resp.GetBlobDigest(), req.GetBlobDigest()) {
			t.Fatalf("%v was spliced as %v: %v", req.GetBlobDigest(), resp.GetBlobDigest(), err)
		}
		got, err := cas.ReadAll(t.Context(), fix.instances[req.GetInstanceName()].Store, blob, 64<<20)
		if err != nil || blob.Function().Sum(got) != blob {
			t.Errorf("%d bytes of %v, %v", len(got), blob, err)
		}
	})
}
