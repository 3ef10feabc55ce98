package main

import (
	"errors"
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
	"github.com/hearth-build/hearth/cas/memory"
	"github.com/hearth-build/hearth/reapi"
	"github.com/hearth-build/hearth/reapi/execution"
)

func TestAssetFlags(t *testing.T) {
	bad := assetsFlags{AssetAllowNetwork: []string{"10.0.0.0/8", "intranet"}}
	if err := bad.validate(); err == nil || !strings.Contains(err.Error(), "--asset-allow-network") || !strings.Contains(err.Error(), "intranet") {
		t.Errorf("%v", err)
	}
	some := assetsFlags{AssetPushPrefix: []string{"urn:ours:", "https://ours.example/"}}
	for uri, want := range map[string]bool{"urn:ours:1": true, "https://ours.example/x": true, "urn:theirs:1": false, "https://ours.example.evil/": false} {
		if some.mayPush(t.Context(), uri) != want {
			t.Errorf("%s may be pushed: %v", uri, !want)
		}
	}
	if all := (&assetsFlags{}); !all.mayPush(t.Context(), "urn:any:1") || all.validate() != nil {
		t.Error("without flags not everything may be pushed")
	}
}

// The flags reach the fetchers, each instance has its own, and associations
// outlive them.
func TestOpenAssets(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if _, err := w.Write([]byte("content")); err != nil {
			t.Error(err)
		}
	}))
	defer server.Close()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "spool"), 0o700); err != nil {
		t.Fatal(err)
	}
	instances := reapi.Instances{}
	for _, name := range []string{"", "team/one"} {
		instances[name] = &execution.Instance{Name: name, Store: memory.New(0)}
	}
	req := asset.Request{Kind: asset.Blob, URIs: []string{server.URL}}
	fetch := func(flags assetsFlags, instance string) error {
		store, err := disk.Open(t.Context(), disk.Options{Dir: filepath.Join(dir, "store")})
		if err != nil {
			t.Fatal(err)
		}
		a, err := flags.open(dir, actioncache.NewDisk(store, "assets"))
		if err != nil {
			t.Fatal(err)
		}
		for name, of := range instances {
			if err := a.add(of, name); err != nil {
				t.Fatal(err)
			}
		}
		got, err := a.of(instances[instance]).Fetch(t.Context(), req)
		if err == nil && got.Digest != cas.SHA256.Sum([]byte("content")) {
			t.Errorf("fetched %v", got)
		}
		if err := errors.Join(a.close(t.Context()), store.Close()); err != nil {
			t.Error(err)
		}
		return err
	}
	allowed := assetsFlags{AssetAllowNetwork: []string{"127.0.0.0/8"}}
	if err := fetch(assetsFlags{}, ""); err == nil || !strings.Contains(err.Error(), "--asset-allow-network") {
		t.Errorf("loopback is reached: %v", err)
	}
	if err := fetch(allowed, ""); err != nil {
		t.Error(err)
	}
	if err := fetch(assetsFlags{}, ""); err != nil { // known by now
		t.Error(err)
	}
	if err := fetch(assetsFlags{}, "team/one"); err == nil {
		t.Error("another instance knows it as well")
	}
}
