package asset_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/actioncache"
	"github.com/hearth-build/hearth/cas/asset"
	"github.com/hearth-build/hearth/cas/memory"
)

// rig is a Fetcher with a store of its own, and a real HTTP server to fetch from.
type rig struct {
	t       *testing.T
	store   *memory.Store
	results actioncache.Cache
	origin  *asset.Origin
	fetcher *asset.Fetcher
	server  *httptest.Server
	handler http.HandlerFunc
	hits    atomic.Int32
}

// loopback is what a guard must be told for these tests to have an origin.
func loopback() []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} }

// newRig starts a rig whose origin answers as the handler does, which may be
// changed later. What it uses is gone at the end of the test, or the test fails.
func newRig(t *testing.T, handler http.HandlerFunc, change ...func(*asset.OriginOptions, *asset.FetcherOptions)) *rig {
	t.Helper()
	goroutines, files := runtime.NumGoroutine(), openFiles(t)
	r := &rig{t: t, store: memory.New(0), results: actioncache.NewMemory(1 << 20), handler: handler}
	r.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.hits.Add(1)
		r.handler(w, req)
	}))
	origins := asset.OriginOptions{AllowNetworks: loopback(), SpoolDir: t.TempDir(), Attempts: 1, RetryDelay: time.Millisecond}
	options := asset.FetcherOptions{Store: r.store, Associations: r.results}
	for _, c := range change {
		c(&origins, &options)
	}
	var err error
	if r.origin, err = asset.NewOrigin(origins); err != nil {
		t.Fatal(err)
	}
	options.Origin = r.origin
	if r.fetcher, err = asset.NewFetcher(options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := r.fetcher.Close(ctx); err != nil {
			t.Error(err)
		}
		r.origin.Close()
		r.server.CloseClientConnections()
		r.server.Close()
		eventually(t, "goroutines and files are gone", func() bool {
			return runtime.NumGoroutine() <= goroutines && openFiles(t) <= files
		})
		if left, err := os.ReadDir(origins.SpoolDir); err != nil || len(left) > 0 {
			t.Errorf("spool directory: %v, %v", left, err)
		}
	})
	return r
}

func openFiles(t *testing.T) int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(fds)
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(10 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Errorf("not in time: %s", what)
			return
		}
	}
}

// text is an origin that sends the same to everybody.
func text(s string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, s) }
}

func (r *rig) url(path string) string { return r.server.URL + path }

// blob asks for a blob of the origin.
func (r *rig) blob(path string, qualifiers ...asset.Qualifier) asset.Request {
	return asset.Request{Kind: asset.Blob, URIs: []string{r.url(path)}, Qualifiers: qualifiers, Function: cas.SHA256}
}

func (r *rig) tree(path string, qualifiers ...asset.Qualifier) asset.Request {
	req := r.blob(path, qualifiers...)
	req.Kind = asset.Directory
	return req
}

func q(name, value string) asset.Qualifier { return asset.Qualifier{Name: name, Value: value} }

// fetch wants the content.
func (r *rig) fetch(req asset.Request, want string) asset.Fetched {
	r.t.Helper()
	got, err := r.fetcher.Fetch(r.t.Context(), req)
	if err != nil {
		r.t.Errorf("fetch %v: %v", req.URIs, err)
		return got
	}
	data, err := cas.ReadAll(r.t.Context(), r.store, got.Digest, 1<<30)
	if err != nil || string(data) != want {
		r.t.Errorf("fetch %v: %.100q, %v, want %.100q", req.URIs, data, err, want)
	}
	if got.Warning != "" {
		r.t.Errorf("warning %q", got.Warning)
	}
	return got
}

// fail wants an error of the kind, and returns it.
func (r *rig) fail(req asset.Request, kind error) error {
	r.t.Helper()
	got, err := r.fetcher.Fetch(r.t.Context(), req)
	if !errors.Is(err, kind) {
		r.t.Errorf("fetch %v %v: %v, %v, want %v", req.URIs, req.Qualifiers, got, err, kind)
	}
	if err != nil && !got.Digest.IsZero() {
		r.t.Errorf("fetch %v: digest %v with an error", req.URIs, got.Digest)
	}
	return err
}

// wantHits holds the number of requests that the origin got against want.
func (r *rig) wantHits(want int32) {
	r.t.Helper()
	if got := r.hits.Load(); got != want {
		r.t.Errorf("the origin was asked %d times, want %d", got, want)
	}
}

// lacks wants a blob to be absent.
func (r *rig) lacks(content string) {
	r.t.Helper()
	d := cas.SHA256.Sum([]byte(content))
	if missing, err := r.store.FindMissing(r.t.Context(), []cas.Digest{d}); err != nil || len(missing) != 1 {
		r.t.Errorf("%.50q is in the store (%v)", content, err)
	}
}

func contains(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v does not say %q", err, want)
	}
}
