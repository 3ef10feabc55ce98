package reapi_test

import (
	"bytes"
	"fmt"
	"math"
	"testing"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/actioncache"
	"github.com/hearth-build/hearth/cas/disk"
	"github.com/hearth-build/hearth/cas/memory"
	"github.com/hearth-build/hearth/reapi"
)

// badDigests are malformed in each way that there is (REAPI B2, B3, B6, B12, 0.4).
func badDigests() map[string]*repb.Digest {
	good := digest("x")
	return map[string]*repb.Digest{
		"absent":            nil,
		"empty":             {},
		"upper case":        {Hash: "ABCDEF" + good.GetHash()[6:], SizeBytes: 1},
		"not hexadecimal":   {Hash: "xyz" + good.GetHash()[3:], SizeBytes: 1},
		"short":             {Hash: good.GetHash()[1:], SizeBytes: 1},
		"negative size":     {Hash: good.GetHash(), SizeBytes: -1},
		"size 0, not empty": {Hash: good.GetHash(), SizeBytes: 0},
	}
}

// REAPI C1-C3, C5, B4, B7, B11.
func TestFindMissingBlobs(t *testing.T) {
	f := newFixture(t)
	client := repb.NewContentAddressableStorageClient(f.conn)
	here, gone, empty := f.put([]byte("here")), digest("gone"), digest("")
	find := func(fn repb.DigestFunction_Value, ds ...*repb.Digest) []*repb.Digest {
		t.Helper()
		resp, err := client.FindMissingBlobs(t.Context(), &repb.FindMissingBlobsRequest{BlobDigests: ds, DigestFunction: fn})
		if err != nil {
			t.Fatal(err)
		}
		return resp.GetMissingBlobDigests()
	}
	if got := find(0, here, gone, empty, gone, here); len(got) != 1 || !proto.Equal(got[0], gone) {
		t.Errorf("missing %v", got)
	}
	if got := find(0); len(got) != 0 {
		t.Errorf("an empty request has missing blobs %v", got)
	}
	// The same hexadecimal under BLAKE3 is another blob.
	if got := find(repb.DigestFunction_BLAKE3, here); len(got) != 1 {
		t.Errorf("missing %v", got)
	}
	var many []*repb.Digest
	for i := range 15_000 {
		many = append(many, digest(fmt.Sprint(i)))
	}
	if got := find(0, many...); len(got) != len(many) {
		t.Errorf("%d of %d are missing", len(got), len(many))
	}
}

// REAPI C6, B2, B3, B5, B6, B10.
func TestFindMissingBlobsRefuses(t *testing.T) {
	f := newFixture(t)
	client := repb.NewContentAddressableStorageClient(f.conn)
	for name, d := range badDigests() {
		_, err := client.FindMissingBlobs(t.Context(), &repb.FindMissingBlobsRequest{BlobDigests: []*repb.Digest{digest("a"), d}})
		wantCode(t, name, err, codes.InvalidArgument)
	}
	mixed := []*repb.Digest{digest("a"), cas.SHA1.Sum([]byte("a")).Proto()}
	for name, req := range map[string]*repb.FindMissingBlobsRequest{
		"mixed functions":  {BlobDigests: mixed},
		"unknown function": {BlobDigests: mixed[:1], DigestFunction: 4711},
		"wrong function":   {BlobDigests: mixed[:1], DigestFunction: repb.DigestFunction_SHA1},
		"not announced":    {BlobDigests: mixed[:1], DigestFunction: repb.DigestFunction_VSO},
	} {
		_, err := client.FindMissingBlobs(t.Context(), req)
		wantCode(t, name, err, codes.InvalidArgument)
	}
}

// REAPI C9, C11, C12, C14, C15, 0.1, 0.3.
func TestBatchUpdateBlobs(t *testing.T) {
	f := newFixture(t)
	client := repb.NewContentAddressableStorageClient(f.conn)
	wrongSize := digest("size")
	wrongSize.SizeBytes++
	requests := []*repb.BatchUpdateBlobsRequest_Request{
		{Digest: digest("good"), Data: []byte("good")},
		{Digest: digest("good"), Data: []byte("evil")},
		{Digest: digest(""), Data: nil},
		{Digest: digest("good"), Data: []byte("good")},
		{Digest: wrongSize, Data: []byte("size")},
		{Digest: digest("packed"), Data: []byte("packed"), Compressor: repb.Compressor_BROTLI},
	}
	want := []codes.Code{0, codes.InvalidArgument, 0, 0, codes.InvalidArgument, codes.InvalidArgument}
	for _, d := range badDigests() {
		requests = append(requests, &repb.BatchUpdateBlobsRequest_Request{Digest: d, Data: []byte("x")})
		want = append(want, codes.InvalidArgument)
	}
	resp, err := client.BatchUpdateBlobs(t.Context(), &repb.BatchUpdateBlobsRequest{Requests: requests})
	if err != nil || len(resp.GetResponses()) != len(requests) {
		t.Fatalf("%v, %v", resp, err)
	}
	for i, r := range resp.GetResponses() {
		if codes.Code(r.GetStatus().GetCode()) != want[i] || !proto.Equal(r.GetDigest(), requests[i].GetDigest()) {
			t.Errorf("entry %d: %v, want %v", i, r, want[i])
		}
	}
	data, err := cas.ReadAll(t.Context(), f.instances[""].Store, cas.SHA256.Sum([]byte("good")), 10)
	if err != nil || string(data) != "good" {
		t.Errorf("stored %q, %v", data, err)
	}
}

// REAPI C9, C13, C15, C16: whatever a store does with a batch as a whole, each
// entry fails or succeeds on its own.
func TestBatchOnEachStore(t *testing.T) {
	const budget = 256 << 10
	d, err := disk.Open(t.Context(), disk.Options{Dir: t.TempDir(), MaxBytes: budget})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	for name, store := range map[string]cas.Store{"disk": d.Namespace(""), "memory": memory.New(budget)} {
		f := newFixtureOf(t, reapi.Instances{"": {Store: store, Results: actioncache.NewMemory(1000)}})
		client := repb.NewContentAddressableStorageClient(f.conn)
		small, file, tooLarge := []byte("small"), bytes.Repeat([]byte("f"), 100<<10), bytes.Repeat([]byte("l"), budget+1)
		resp, err := client.BatchUpdateBlobs(t.Context(), &repb.BatchUpdateBlobsRequest{Requests: []*repb.BatchUpdateBlobsRequest_Request{
			{Digest: digest("small"), Data: small},
			{Digest: cas.SHA256.Sum(tooLarge).Proto(), Data: tooLarge},
			{Digest: cas.SHA256.Sum(file).Proto(), Data: file},
			{Digest: digest("other"), Data: small},
			{Digest: digest("packed"), Data: []byte("no zstd"), Compressor: repb.Compressor_ZSTD},
			{Digest: cas.SHA256.Sum(file).Proto(), Data: file[1:]},
			{Digest: digest("last"), Data: []byte("last")},
		}})
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range []codes.Code{0, codes.InvalidArgument, 0, codes.InvalidArgument, codes.InvalidArgument, codes.InvalidArgument, 0} {
			if r := resp.GetResponses()[i]; codes.Code(r.GetStatus().GetCode()) != want {
				t.Errorf("%s: entry %d: %v, want %v", name, i, r.GetStatus(), want)
			}
		}
		read, err := client.BatchReadBlobs(t.Context(), &repb.BatchReadBlobsRequest{Digests: []*repb.Digest{
			digest("other"), digest("last"), cas.SHA256.Sum(file).Proto(), digest(""), cas.SHA256.Sum(tooLarge).Proto(), digest("last"), digest("small"),
		}})
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range [][]byte{nil, []byte("last"), file, {}, nil, []byte("last"), small} {
			r := read.GetResponses()[i]
			if (want == nil) != (codes.Code(r.GetStatus().GetCode()) == codes.NotFound) || !bytes.Equal(r.GetData(), want) {
				t.Errorf("%s: entry %d: %d bytes, %v", name, i, len(r.GetData()), r.GetStatus())
			}
		}
	}
}

// REAPI C10, C17, C19.
func TestBatchLimits(t *testing.T) {
	f := newFixture(t)
	client := repb.NewContentAddressableStorageClient(f.conn)
	big := bytes.Repeat([]byte{1}, 3<<20)
	one, two := cas.SHA256.Sum(big), cas.SHA256.Sum(big[1:])
	_, err := client.BatchUpdateBlobs(t.Context(), &repb.BatchUpdateBlobsRequest{Requests: []*repb.BatchUpdateBlobsRequest_Request{
		{Digest: one.Proto(), Data: big}, {Digest: two.Proto(), Data: big[1:]},
	}})
	wantCode(t, "batch over the limit", err, codes.InvalidArgument)
	if missing, err := f.instances[""].Store.FindMissing(t.Context(), []cas.Digest{one, two}); err != nil || len(missing) != 2 {
		t.Errorf("a refused batch left something: %v, %v", missing, err)
	}
	huge := digest("x")
	huge.SizeBytes = math.MaxInt64
	for name, ds := range map[string][]*repb.Digest{
		"too much together": {f.put(big), f.put(big[1:])},
		"near 2^63":         {huge, huge},
	} {
		_, err := client.BatchReadBlobs(t.Context(), &repb.BatchReadBlobsRequest{Digests: ds})
		wantCode(t, name, err, codes.InvalidArgument)
	}
	var tiny []*repb.Digest
	for range 30_000 {
		tiny = append(tiny, digest(""))
	}
	_, err = client.BatchReadBlobs(t.Context(), &repb.BatchReadBlobsRequest{Digests: tiny})
	wantCode(t, "overhead of many tiny blobs", err, codes.InvalidArgument)
}

// REAPI C16, C18, B11.
func TestBatchReadBlobs(t *testing.T) {
	f := newFixture(t)
	client := repb.NewContentAddressableStorageClient(f.conn)
	resp, err := client.BatchReadBlobs(t.Context(), &repb.BatchReadBlobsRequest{
		Digests:               []*repb.Digest{f.put([]byte("here")), digest("gone"), digest("")},
		AcceptableCompressors: []repb.Compressor_Value{repb.Compressor_ZSTD, 99},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []codes.Code{codes.OK, codes.NotFound, codes.OK}
	for i, r := range resp.GetResponses() {
		if codes.Code(r.GetStatus().GetCode()) != want[i] || r.GetCompressor() != repb.Compressor_IDENTITY {
			t.Errorf("entry %d: %v", i, r)
		}
	}
	if string(resp.GetResponses()[0].GetData()) != "here" {
		t.Errorf("read %q", resp.GetResponses()[0].GetData())
	}
	for name, d := range badDigests() {
		_, err := client.BatchReadBlobs(t.Context(), &repb.BatchReadBlobsRequest{Digests: []*repb.Digest{d}})
		wantCode(t, name, err, codes.InvalidArgument)
	}
}
