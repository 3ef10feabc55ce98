package asset_test

import (
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/actioncache"
	"github.com/hearth-build/hearth/cas/asset"
	"github.com/hearth-build/hearth/cas/disk"
)

// REAPI J10: which header goes to which URI.
func TestHeaders(t *testing.T) {
	sent := map[string]http.Header{}
	r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
		sent[req.URL.Path] = req.Header
		w.WriteHeader(http.StatusNotFound)
	})
	req := r.blob("/0",
		q("http_header:X-All", "all"),
		q("http_header:x-both", "general"),
		q("http_header_url:1:X-Both", "own"),
		q("http_header_url:1:X-Only", "a,b"),
		q("bazel.auth_headers", `{"`+r.url("/0")+`":{"Authorization":"zero","X-All":"weak"},"https://other.example":{"X-Other":"o"}}`),
	)
	req.URIs = append(req.URIs, r.url("/1"))
	r.fail(req, asset.ErrAbsent)
	for path, want := range map[string]map[string]string{
		"/0": {"X-All": "all", "X-Both": "general", "X-Only": "", "Authorization": "zero", "X-Other": "", "User-Agent": "hearth"},
		"/1": {"X-All": "all", "X-Both": "own", "X-Only": "a,b", "Authorization": "", "X-Other": ""},
	} {
		for name, value := range want {
			if got := sent[path].Get(name); got != value {
				t.Errorf("%s was sent %s: %q, want %q", path, name, got, value)
			}
		}
	}
	r.fail(r.blob("/agent", q("http_header:user-agent", "mine")), asset.ErrAbsent)
	if got := sent["/agent"].Get("User-Agent"); got != "mine" {
		t.Errorf("User-Agent %q", got)
	}
}

// REAPI J11: content that takes credentials is for those who have them, or know
// its checksum.
func TestCredentialsAreInTheKey(t *testing.T) {
	r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
		if req.Header.Get("Authorization") != "Bearer s3cret" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_, _ = io.WriteString(w, "private")
	})
	auth := q("http_header:Authorization", "Bearer s3cret")
	r.fetch(r.blob("/", auth), "private")
	r.fetch(r.blob("/", auth), "private")
	r.wantHits(1)
	r.fetch(r.blob("/", q("http_header_url:0:Authorization", "Bearer s3cret")), "private") // the same, said otherwise
	r.fetch(r.blob("/", q("bazel.auth_headers", `{"`+r.url("/")+`":{"Authorization":"Bearer s3cret"}}`)), "private")
	r.wantHits(1)
	r.fail(r.blob("/"), asset.ErrDenied)
	r.fail(r.blob("/", q("http_header:Authorization", "Bearer guess")), asset.ErrDenied)
	r.wantHits(3)
	pin := q("checksum.sri", sri256("private"))
	r.fetch(r.blob("/", auth, pin), "private")
	r.fetch(r.blob("/", pin), "private")
	r.wantHits(4)
}

// REAPI J11: headers go no further than the origin they are for, and once away
// they do not come back.
func TestHeadersStayAtTheirOrigin(t *testing.T) {
	var leaked []string
	var home string
	away := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		leaked = append(leaked, req.Header.Get("Authorization")+req.Header.Get("X-Token")+req.Header.Get("Referer"))
		http.Redirect(w, req, home+"/back", http.StatusFound)
	}))
	defer away.Close()
	r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
		switch req.URL.Path {
		case "/same":
			http.Redirect(w, req, "/inside", http.StatusFound)
		case "/inside":
			_, _ = io.WriteString(w, req.Header.Get("Authorization")+req.Header.Get("X-Token")+req.Header.Get("Referer"))
		case "/away":
			http.Redirect(w, req, away.URL+"/x", http.StatusFound)
		case "/back":
			leaked = append(leaked, req.Header.Get("Authorization")+req.Header.Get("X-Token")+req.Header.Get("Referer"))
			_, _ = io.WriteString(w, "done")
		}
	})
	home = r.server.URL
	headers := []asset.Qualifier{q("http_header:Authorization", "a"), q("http_header:X-Token", "t")}
	r.fetch(r.blob("/same?query=secret", headers...), "at")
	r.fetch(r.blob("/away?query=secret", headers...), "done")
	if len(leaked) != 2 || strings.Join(leaked, "") != "" {
		t.Errorf("sent elsewhere: %q", leaked)
	}
}

// REAPI J11: no secret gets into an error or onto the disk. What is on the disk
// works after a restart.
func TestSecretsAreKeptNowhere(t *testing.T) {
	dir := t.TempDir()
	var open func() actioncache.Cache
	var last *disk.Disk
	r := newRig(t, text("content"), func(_ *asset.OriginOptions, o *asset.FetcherOptions) {
		open = func() actioncache.Cache {
			var err error
			if last != nil {
				err = last.Close()
			}
			if err == nil {
				last, err = disk.Open(t.Context(), disk.Options{Dir: dir})
			}
			if err != nil {
				t.Fatal(err)
			}
			return actioncache.NewDisk(last, "assets").Namespace("")
		}
		o.Associations = open()
	})
	secret := []asset.Qualifier{q("http_header:X", "s3cret"), q("bazel.canonical_id", "id")}
	req := r.blob("/x?token=s3cret#s3cret", secret...)
	req.URIs[0] = strings.Replace(req.URIs[0], "http://", "http://s3cret:s3cret@", 1)
	r.fetch(req, "content")
	r.handler = func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/redirect" {
			http.Redirect(w, req, "http://127.0.0.1:1/?t=s3cret", http.StatusFound)
			return
		}
		w.WriteHeader(http.StatusForbidden)
	}
	for _, path := range []string{"/denied", "/redirect"} {
		failing := r.blob(path+"?token=s3cret", q("http_header:X", "s3cret"))
		failing.URIs[0] = strings.Replace(failing.URIs[0], "http://", "http://s3cret:s3cret@", 1)
		_, err := r.fetcher.Fetch(t.Context(), failing)
		contains(t, err, path)
		if strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%v tells a secret", err)
		}
	}
	hits := r.hits.Load()
	again, err := asset.NewFetcher(asset.FetcherOptions{Store: r.store, Associations: open(), Origin: r.origin})
	if err != nil {
		t.Fatal(err)
	}
	got, err := again.Fetch(t.Context(), req)
	if err != nil || got.Digest != cas.SHA256.Sum([]byte("content")) {
		t.Errorf("after a restart: %v, %v", got, err)
	}
	if err := again.Close(t.Context()); err != nil {
		t.Error(err)
	}
	r.wantHits(hits)
	if err := last.Close(); err != nil {
		t.Error(err)
	}
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if strings.Contains(path+string(data), "s3cret") {
			t.Errorf("%s has a secret in it", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
