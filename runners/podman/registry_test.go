package podman_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
)

// registry serves one image under any name, over plain HTTP on the loopback.
type registry struct {
	server             *httptest.Server
	address            string
	username, password string // wanted, if not empty

	asked     chan struct{} // gets a token when a manifest is first asked for
	release   chan struct{} // which is answered once this is closed
	manifests atomic.Int64
	layers    atomic.Int64 // downloads

	layer    string // its digest
	manifest []byte
	blobs    map[string][]byte // by digest
}

const (
	typeManifest = "application/vnd.oci.image.manifest.v1+json"
	typeConfig   = "application/vnd.oci.image.config.v1+json"
	typeLayer    = "application/vnd.oci.image.layer.v1.tar"
)

// newRegistry must be called before the podman service is started, which it
// tells that this registry needs no TLS.
func newRegistry(t *testing.T, layer []byte) *registry {
	t.Helper()
	r := &registry{asked: make(chan struct{}, 1), release: make(chan struct{}), blobs: map[string][]byte{}}
	r.serve(t, layer)
	r.server = httptest.NewServer(r)
	t.Cleanup(r.server.Close)
	r.address = strings.TrimPrefix(r.server.URL, "http://")
	conf := filepath.Join(t.TempDir(), "registries.conf")
	text := fmt.Sprintf("[[registry]]\nlocation = %q\ninsecure = true\n", r.address)
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("CONTAINERS_REGISTRIES_CONF", conf)
	return r
}

// serve makes another image the one that is served.
func (r *registry) serve(t *testing.T, layer []byte) {
	t.Helper()
	r.layer = digest(layer)
	config := marshal(t, map[string]any{
		"architecture": runtime.GOARCH, "os": "linux",
		"config": map[string]any{"Env": []string{"PULLED=yes"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{digest(layer)}},
	})
	r.manifest = marshal(t, map[string]any{
		"schemaVersion": 2, "mediaType": typeManifest,
		"config": r.blob(typeConfig, config),
		"layers": []any{r.blob(typeLayer, layer)},
	})
}

func (r *registry) image(name string) string { return r.address + "/hearth/" + name + ":latest" }

// blob stores one and returns its descriptor.
func (r *registry) blob(mediaType string, content []byte) map[string]any {
	r.blobs[digest(content)] = content
	return map[string]any{"mediaType": mediaType, "digest": digest(content), "size": len(content)}
}

func digest(content []byte) string {
	sum := sha256.Sum256(content)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func marshal(t *testing.T, v any) []byte {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// ServeHTTP implements http.Handler.
func (r *registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if username, password, _ := req.BasicAuth(); r.username != "" && (username != r.username || password != r.password) {
		w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	_, reference, isManifest := strings.Cut(req.URL.Path, "/manifests/")
	switch {
	case req.URL.Path == "/v2/":
	case isManifest:
		r.serveManifest(w, req, reference)
	default:
		name := filepath.Base(req.URL.Path)
		if name == r.layer && req.Method == http.MethodGet {
			r.layers.Add(1)
		}
		content, ok := r.blobs[name]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
		}
		_, _ = w.Write(content)
	}
}

func (r *registry) serveManifest(w http.ResponseWriter, req *http.Request, reference string) {
	if reference == "latest" && req.Method == http.MethodGet {
		r.manifests.Add(1)
		select {
		case r.asked <- struct{}{}:
		default:
		}
		select {
		case <-r.release:
		case <-req.Context().Done():
		}
	}
	w.Header().Set("Content-Type", typeManifest)
	w.Header().Set("Docker-Content-Digest", digest(r.manifest))
	_, _ = w.Write(r.manifest)
}
