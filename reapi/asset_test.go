package reapi_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	remoteasset "github.com/bazelbuild/remote-apis/build/bazel/remote/asset/v1"
	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/genproto/googleapis/bytestream"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/actioncache"
	"github.com/hearth-build/hearth/cas/asset"
	"github.com/hearth-build/hearth/cas/memory"
	"github.com/hearth-build/hearth/reapi"
	"github.com/hearth-build/hearth/reapi/execution"
)

// assetFixture is a server with three instances, the last of which has no
// assets, and an origin on loopback.
type assetFixture struct {
	t      *testing.T
	fetch  remoteasset.FetchClient
	push   remoteasset.PushClient
	conn   *grpc.ClientConn
	stores map[string]*memory.Store
	origin *httptest.Server
	answer http.HandlerFunc
	ended  func() // is called when a Fetch has ended on the server; nil: nothing is
}

// endings calls back when a Fetch has ended.
type endings struct {
	reapi.Assets
	of *assetFixture
}

func (e endings) Fetch(ctx context.Context, req asset.Request) (asset.Fetched, error) {
	got, err := e.Assets.Fetch(ctx, req)
	if e.of.ended != nil {
		e.of.ended()
	}
	return got, err
}

func newAssetFixture(t *testing.T) *assetFixture {
	t.Helper()
	f := &assetFixture{t: t, stores: map[string]*memory.Store{}}
	f.origin = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { f.answer(w, r) }))
	t.Cleanup(f.origin.Close)
	origin, err := asset.NewOrigin(asset.OriginOptions{
		AllowNetworks: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}, SpoolDir: t.TempDir(), Attempts: 1, MaxBytes: 1000_000,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(origin.Close)
	instances, assets := reapi.Instances{}, map[string]reapi.Assets{}
	for _, name := range []string{"", "team/one", "plain"} {
		store := memory.New(64 << 20)
		f.stores[name] = store
		instances[name] = &execution.Instance{Name: name, Store: store, Results: actioncache.NewMemory(1000)}
		if name == "plain" {
			continue
		}
		fetcher, err := asset.NewFetcher(asset.FetcherOptions{
			Store: store, Associations: actioncache.NewMemory(1 << 20), Origin: origin,
			MayPush: func(_ context.Context, uri string) bool { return !strings.HasPrefix(uri, "urn:forbidden:") },
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := fetcher.Close(context.Background()); err != nil {
				t.Error(err)
			}
		})
		assets[name] = endings{fetcher, f}
	}
	f.serve(instances, reapi.WithAssets(func(i *execution.Instance) reapi.Assets { return assets[i.Name] }))
	return f
}

// serve starts the server and connects to it.
func (f *assetFixture) serve(instances reapi.Instances, options ...reapi.Option) {
	server, err := reapi.NewServer(instances, nil, options...)
	if err != nil {
		f.t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	if f.conn, err = grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials())); err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() {
		if err := f.conn.Close(); err != nil {
			f.t.Error(err)
		}
		server.Finish()
		if err := <-served; err != nil {
			f.t.Error(err)
		}
	})
	f.fetch, f.push = remoteasset.NewFetchClient(f.conn), remoteasset.NewPushClient(f.conn)
}

func (f *assetFixture) says(s string) {
	f.answer = func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, s) }
}

func qualifiers(pairs ...string) []*remoteasset.Qualifier {
	var list []*remoteasset.Qualifier
	for i := 0; i < len(pairs); i += 2 {
		list = append(list, &remoteasset.Qualifier{Name: pairs[i], Value: pairs[i+1]})
	}
	return list
}

func sri(s string) string {
	sum := sha256.Sum256([]byte(s))
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}

// REAPI J3, J4, J24, K15: what Bazel's remote downloader sends, and reads at once.
func TestFetchBlob(t *testing.T) {
	f := newAssetFixture(t)
	f.answer = func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "archive for "+r.Header.Get("Authorization")+r.Header.Get("X-All"))
	}
	const want = "archive for Bearer zall"
	for _, fn := range []repb.DigestFunction_Value{repb.DigestFunction_UNKNOWN, repb.DigestFunction_SHA256, repb.DigestFunction_BLAKE3} {
		resp, err := f.fetch.FetchBlob(t.Context(), &remoteasset.FetchBlobRequest{
			InstanceName: "team/one",
			Uris:         []string{"ftp://mirror.example/a", f.origin.URL + "/a.tar.gz"},
			Qualifiers: qualifiers("checksum.sri", sri(want), "bazel.canonical_id", "https://a",
				"http_header:X-All", "all", "http_header_url:1:Authorization", "Bearer z"),
			DigestFunction: fn,
		})
		if err != nil || resp.GetStatus().GetCode() != 0 || resp.GetUri() != f.origin.URL+"/a.tar.gz" && fn != repb.DigestFunction_SHA256 {
			t.Fatalf("%v, %v", resp, err)
		}
		wantFunction := fn
		if fn == repb.DigestFunction_UNKNOWN {
			wantFunction = repb.DigestFunction_SHA256
		}
		d, err := cas.FromProto(resp.GetDigestFunction(), resp.GetBlobDigest())
		if err != nil || resp.GetDigestFunction() != wantFunction {
			t.Fatalf("%v: %v, %v", fn, resp, err)
		}
		if got := f.read("team/one/blobs/" + d.Name()); got != want {
			t.Errorf("the cache has %q", got)
		}
	}
}

// read reads a whole blob by ByteStream.
func (f *assetFixture) read(name string) string {
	f.t.Helper()
	stream, err := bytestream.NewByteStreamClient(f.conn).Read(f.t.Context(), &bytestream.ReadRequest{ResourceName: name})
	if err != nil {
		f.t.Fatal(err)
	}
	var data []byte
	for {
		resp, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return string(data)
		}
		if err != nil {
			f.t.Error(err)
			return ""
		}
		data = append(data, resp.GetData()...)
	}
}

// REAPI J2, J3, J18: what is an origin's fault is in the reply.
func TestOriginFaultsAreInline(t *testing.T) {
	f := newAssetFixture(t)
	f.answer = func(w http.ResponseWriter, r *http.Request) {
		var code int
		switch n, _ := fmt.Sscanf(r.URL.Path, "/%d", &code); {
		case n == 1:
			w.WriteHeader(code)
		case r.URL.Path == "/slow":
			<-r.Context().Done()
		case r.URL.Path == "/big":
			_, _ = io.WriteString(w, strings.Repeat("x", 2000_000))
		}
	}
	for path, want := range map[string]codes.Code{
		"/404": codes.NotFound, "/410": codes.NotFound, "/401": codes.PermissionDenied, "/403": codes.PermissionDenied,
		"/500": codes.Aborted, "/503": codes.Aborted, "/429": codes.Aborted,
		"/slow": codes.DeadlineExceeded, "/big": codes.ResourceExhausted, "/other": codes.Aborted,
	} {
		req := &remoteasset.FetchBlobRequest{Uris: []string{f.origin.URL + path}, Qualifiers: qualifiers("checksum.sri", sri("expected"))}
		if path == "/slow" {
			req.Timeout = durationpb.New(20 * time.Millisecond)
		}
		resp, err := f.fetch.FetchBlob(t.Context(), req)
		if err != nil || codes.Code(resp.GetStatus().GetCode()) != want || resp.GetUri() != req.GetUris()[0] || resp.GetBlobDigest() != nil {
			t.Errorf("%s: %v, %v, want %v", path, resp, err, want)
		}
	}
	for uri, want := range map[string]codes.Code{
		"http://127.0.0.2:1/": codes.PermissionDenied, "http://169.254.169.254/latest/meta-data": codes.PermissionDenied,
		"file:///etc/passwd": codes.PermissionDenied, "urn:x:y": codes.NotFound, "http://127.0.0.1:1/": codes.Aborted,
	} {
		blob, err := f.fetch.FetchBlob(t.Context(), &remoteasset.FetchBlobRequest{Uris: []string{uri}})
		if err != nil || codes.Code(blob.GetStatus().GetCode()) != want || blob.GetBlobDigest() != nil {
			t.Errorf("blob %s: %v, %v, want %v", uri, blob, err, want)
		}
		dir, err := f.fetch.FetchDirectory(t.Context(), &remoteasset.FetchDirectoryRequest{Uris: []string{uri}})
		if err != nil || codes.Code(dir.GetStatus().GetCode()) != want || dir.GetRootDirectoryDigest() != nil {
			t.Errorf("directory %s: %v, %v, want %v", uri, dir, err, want)
		}
	}
}

// REAPI 0.4, A24, A26, J1, J2, J4, J5, J7, J10, J13, J15: mistakes are statuses
// of the RPC.
func TestWrongFetches(t *testing.T) {
	f := newAssetFixture(t)
	f.says("x")
	good := func() *remoteasset.FetchBlobRequest {
		return &remoteasset.FetchBlobRequest{Uris: []string{f.origin.URL}}
	}
	for name, change := range map[string]func(*remoteasset.FetchBlobRequest){
		"no URI":        func(r *remoteasset.FetchBlobRequest) { r.Uris = nil },
		"malformed":     func(r *remoteasset.FetchBlobRequest) { r.Uris = []string{"://", "\x01"} },
		"instance":      func(r *remoteasset.FetchBlobRequest) { r.InstanceName = "nobody" },
		"bad instance":  func(r *remoteasset.FetchBlobRequest) { r.InstanceName = "a//b" },
		"function":      func(r *remoteasset.FetchBlobRequest) { r.DigestFunction = repb.DigestFunction_VSO },
		"unknown":       func(r *remoteasset.FetchBlobRequest) { r.DigestFunction = 99 },
		"negative":      func(r *remoteasset.FetchBlobRequest) { r.Timeout = durationpb.New(-1) },
		"bad timeout":   func(r *remoteasset.FetchBlobRequest) { r.Timeout = &durationpb.Duration{Seconds: 1, Nanos: -1} },
		"bad timestamp": func(r *remoteasset.FetchBlobRequest) { r.OldestContentAccepted = &timestamppb.Timestamp{Nanos: -1} },
		"duplicate":     func(r *remoteasset.FetchBlobRequest) { r.Qualifiers = qualifiers("a", "1", "a", "1") },
		"nil qualifier": func(r *remoteasset.FetchBlobRequest) { r.Qualifiers = []*remoteasset.Qualifier{{}} },
		"bad checksum":  func(r *remoteasset.FetchBlobRequest) { r.Qualifiers = qualifiers("checksum.sri", "sha256-x") },
		"header":        func(r *remoteasset.FetchBlobRequest) { r.Qualifiers = qualifiers("http_header:Host", "x") },
		"header index":  func(r *remoteasset.FetchBlobRequest) { r.Qualifiers = qualifiers("http_header_url:7:A", "x") },
	} {
		req := good()
		change(req)
		_, err := f.fetch.FetchBlob(t.Context(), req)
		wantCode(t, name, err, codes.InvalidArgument)
	}
	plain := good()
	plain.InstanceName = "plain"
	_, err := f.fetch.FetchBlob(t.Context(), plain)
	wantCode(t, "an instance without assets", err, codes.Unimplemented)
	_, err = f.fetch.FetchDirectory(t.Context(), &remoteasset.FetchDirectoryRequest{
		Uris: []string{f.origin.URL + "/x.git"}, Qualifiers: qualifiers("resource_type", "application/x-git"),
	})
	wantCode(t, "git", err, codes.Unimplemented)
}

// REAPI J6: each unsupported qualifier is named in a detail.
func TestUnsupportedQualifiers(t *testing.T) {
	f := newAssetFixture(t)
	_, err := f.fetch.FetchBlob(t.Context(), &remoteasset.FetchBlobRequest{
		Uris: []string{f.origin.URL}, Qualifiers: qualifiers("zeta", "1", "checksum.sri", sri("x"), "alpha", "2"),
	})
	wantCode(t, "FetchBlob", err, codes.InvalidArgument)
	var got []string
	for _, detail := range status.Convert(err).Details() {
		for _, v := range detail.(*errdetails.BadRequest).GetFieldViolations() {
			got = append(got, v.GetField()+": "+v.GetDescription())
		}
	}
	if strings.Join(got, "; ") != `qualifiers.name: "alpha" not supported; qualifiers.name: "zeta" not supported` {
		t.Errorf("violations %q", got)
	}
}

// REAPI J13, J25: a tree that GetTree could walk.
func TestFetchDirectory(t *testing.T) {
	f := newAssetFixture(t)
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	err := w.WriteHeader(&tar.Header{Name: "dir/run", Mode: 0o755, Size: 2})
	if err == nil {
		_, err = io.WriteString(w, "#!")
	}
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	f.says(archive.String())
	resp, err := f.fetch.FetchDirectory(t.Context(), &remoteasset.FetchDirectoryRequest{
		Uris: []string{f.origin.URL + "/a.tar"}, Qualifiers: qualifiers("directory", "dir"), DigestFunction: repb.DigestFunction_SHA1,
	})
	if err != nil || resp.GetStatus().GetCode() != 0 || resp.GetDigestFunction() != repb.DigestFunction_SHA1 || resp.GetUri() != f.origin.URL+"/a.tar" {
		t.Fatalf("%v, %v", resp, err)
	}
	d, err := cas.FromProto(repb.DigestFunction_SHA1, resp.GetRootDirectoryDigest())
	if err != nil {
		t.Fatal(err)
	}
	var root repb.Directory
	if err := proto.Unmarshal([]byte(f.read("blobs/"+d.Name())), &root); err != nil {
		t.Fatal(err)
	}
	if files := root.GetFiles(); len(files) != 1 || files[0].GetName() != "run" || !files[0].GetIsExecutable() {
		t.Errorf("tree %v", &root)
	}
}

// REAPI J20, J21, J22, A27: pushes are per instance, of what is there, by those who may.
func TestPush(t *testing.T) {
	f := newAssetFixture(t)
	d, err := cas.PutBytes(t.Context(), f.stores[""], cas.SHA256, []byte("pushed"))
	if err != nil {
		t.Fatal(err)
	}
	push := &remoteasset.PushBlobRequest{
		Uris: []string{"urn:a:1", "urn:a:2"}, Qualifiers: qualifiers("k", "v"), BlobDigest: d.Proto(),
		ExpireAt: timestamppb.New(time.Now().Add(time.Hour)),
	}
	if _, err := f.push.PushBlob(t.Context(), push); err != nil {
		t.Fatal(err)
	}
	fetch := &remoteasset.FetchBlobRequest{Uris: []string{"urn:a:2"}, Qualifiers: qualifiers("k", "v")}
	resp, err := f.fetch.FetchBlob(t.Context(), fetch)
	if err != nil || !proto.Equal(resp.GetBlobDigest(), d.Proto()) || resp.GetUri() != "urn:a:2" || resp.GetExpiresAt() != nil {
		t.Errorf("%v, %v", resp, err)
	}
	fetch.InstanceName = "team/one"
	_, err = f.fetch.FetchBlob(t.Context(), fetch)
	wantCode(t, "another instance", err, codes.InvalidArgument)
	fetch.InstanceName, push.ExpireAt = "", timestamppb.New(time.Unix(1, 0))
	if _, err := f.push.PushBlob(t.Context(), push); err != nil {
		t.Error(err)
	}
	_, err = f.fetch.FetchBlob(t.Context(), fetch)
	wantCode(t, "expired", err, codes.InvalidArgument)

	absent := digest("absent")
	for name, c := range map[string]struct {
		change func(*remoteasset.PushBlobRequest)
		want   codes.Code
	}{
		"no URI":         {func(r *remoteasset.PushBlobRequest) { r.Uris = nil }, codes.InvalidArgument},
		"no digest":      {func(r *remoteasset.PushBlobRequest) { r.BlobDigest = nil }, codes.InvalidArgument},
		"bad digest":     {func(r *remoteasset.PushBlobRequest) { r.BlobDigest = &repb.Digest{Hash: "x"} }, codes.InvalidArgument},
		"bad reference":  {func(r *remoteasset.PushBlobRequest) { r.ReferencesBlobs = []*repb.Digest{nil} }, codes.InvalidArgument},
		"bad time":       {func(r *remoteasset.PushBlobRequest) { r.ExpireAt = &timestamppb.Timestamp{Nanos: -1} }, codes.InvalidArgument},
		"duplicate":      {func(r *remoteasset.PushBlobRequest) { r.Qualifiers = qualifiers("a", "", "a", "") }, codes.InvalidArgument},
		"instance":       {func(r *remoteasset.PushBlobRequest) { r.InstanceName = "nobody" }, codes.InvalidArgument},
		"no assets":      {func(r *remoteasset.PushBlobRequest) { r.InstanceName = "plain" }, codes.Unimplemented},
		"absent":         {func(r *remoteasset.PushBlobRequest) { r.BlobDigest = absent }, codes.FailedPrecondition},
		"absent there":   {func(r *remoteasset.PushBlobRequest) { r.InstanceName = "team/one" }, codes.FailedPrecondition},
		"absent blob":    {func(r *remoteasset.PushBlobRequest) { r.ReferencesBlobs = []*repb.Digest{absent} }, codes.FailedPrecondition},
		"absent tree":    {func(r *remoteasset.PushBlobRequest) { r.ReferencesDirectories = []*repb.Digest{absent} }, codes.FailedPrecondition},
		"not allowed":    {func(r *remoteasset.PushBlobRequest) { r.Uris = []string{"urn:forbidden:1"} }, codes.PermissionDenied},
		"wrong checksum": {func(r *remoteasset.PushBlobRequest) { r.Qualifiers = qualifiers("checksum.sri", sri("x")) }, codes.InvalidArgument},
	} {
		req := proto.CloneOf(push)
		c.change(req)
		_, err := f.push.PushBlob(t.Context(), req)
		wantCode(t, "push "+name, err, c.want)
	}
}

// REAPI J20, J21: directories have a name space of their own.
func TestPushDirectory(t *testing.T) {
	f := newAssetFixture(t)
	empty := cas.SHA256.Empty().Proto()
	if _, err := f.push.PushDirectory(t.Context(), &remoteasset.PushDirectoryRequest{Uris: []string{"urn:d:1"}, RootDirectoryDigest: empty}); err != nil {
		t.Fatal(err)
	}
	resp, err := f.fetch.FetchDirectory(t.Context(), &remoteasset.FetchDirectoryRequest{Uris: []string{"urn:d:1"}})
	if err != nil || !proto.Equal(resp.GetRootDirectoryDigest(), empty) {
		t.Errorf("%v, %v", resp, err)
	}
	blob, err := f.fetch.FetchBlob(t.Context(), &remoteasset.FetchBlobRequest{Uris: []string{"urn:d:1"}})
	if err != nil || codes.Code(blob.GetStatus().GetCode()) != codes.NotFound {
		t.Errorf("%v, %v", blob, err)
	}
	_, err = f.push.PushDirectory(t.Context(), &remoteasset.PushDirectoryRequest{Uris: []string{"urn:d:2"}, RootDirectoryDigest: digest("absent")})
	wantCode(t, "absent", err, codes.FailedPrecondition)
	_, err = f.push.PushDirectory(t.Context(), &remoteasset.PushDirectoryRequest{RootDirectoryDigest: empty})
	wantCode(t, "no URI", err, codes.InvalidArgument)
}

// REAPI J2, J15: the RPC's own deadline is a status of the RPC, and the download
// goes on for those who ask again.
func TestFetchDeadline(t *testing.T) {
	f := newAssetFixture(t)
	release := make(chan struct{})
	asked, ended := make(chan struct{}, 10), make(chan struct{}, 10)
	f.ended = func() { ended <- struct{}{} }
	f.answer = func(w http.ResponseWriter, _ *http.Request) {
		asked <- struct{}{}
		<-release
		_, _ = io.WriteString(w, "late")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	req := &remoteasset.FetchBlobRequest{Uris: []string{f.origin.URL}, OldestContentAccepted: timestamppb.New(time.Now().Add(time.Hour))}
	_, err := f.fetch.FetchBlob(ctx, req)
	wantCode(t, "FetchBlob", err, codes.DeadlineExceeded)
	<-asked
	<-ended // until then the server takes the client for one that has the result
	close(release)
	resp, err := f.fetch.FetchBlob(t.Context(), req)
	if err != nil || !proto.Equal(resp.GetBlobDigest(), digest("late")) {
		t.Errorf("%v, %v", resp, err)
	}
	if len(asked) > 0 {
		t.Error("the origin was asked twice")
	}
}

// Without assets there is no asset service.
func TestNoAssets(t *testing.T) {
	f := newFixture(t)
	_, err := remoteasset.NewFetchClient(f.conn).FetchBlob(t.Context(), &remoteasset.FetchBlobRequest{})
	wantCode(t, "FetchBlob", err, codes.Unimplemented)
}
