package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// onlyFor serves an image of one file to one user.
type onlyFor struct {
	username, password string

	manifest string
	files    map[string][]byte // by digest
	types    map[string]string
}

// add serves a blob, and returns its descriptor.
func (o *onlyFor) add(mediaType string, content []byte) map[string]any {
	digest := fmt.Sprintf("sha256:%x", sha256.Sum256(content))
	o.files[digest], o.types[digest] = content, mediaType
	return map[string]any{"mediaType": mediaType, "digest": digest, "size": len(content)}
}

func newOnlyFor(t *testing.T, username, password string) *onlyFor {
	t.Helper()
	o := &onlyFor{username: username, password: password, files: map[string][]byte{}, types: map[string]string{}}
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	text := time.Now().String()
	if err := w.WriteHeader(&tar.Header{Name: "file", Mode: 0o644, Size: int64(len(text))}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	const oci = "application/vnd.oci.image."
	layer := o.add(oci+"layer.v1.tar", archive.Bytes())
	config := o.add(oci+"config.v1+json", toJSON(t, map[string]any{
		"architecture": runtime.GOARCH, "os": "linux",
		"rootfs": map[string]any{"type": "layers", "diff_ids": []any{layer["digest"]}},
	}))
	o.manifest = o.add(oci+"manifest.v1+json", toJSON(t, map[string]any{
		"schemaVersion": 2, "mediaType": oci + "manifest.v1+json", "config": config, "layers": []any{layer},
	}))["digest"].(string)
	return o
}

func toJSON(t *testing.T, v any) []byte {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// ServeHTTP implements http.Handler.
func (o *onlyFor) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if username, password, _ := req.BasicAuth(); username != o.username || password != o.password {
		w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	digest := path.Base(req.URL.Path)
	if digest == "latest" {
		digest = o.manifest
	}
	w.Header().Set("Content-Type", o.types[digest])
	_, _ = w.Write(o.files[digest])
}

// `hearth doctor --pull` says what an image is, and its password to nobody else.
func TestDoctorPull(t *testing.T) {
	server := httptest.NewServer(newOnlyFor(t, "somebody", "hush-hush"))
	defer server.Close()
	address := strings.TrimPrefix(server.URL, "http://")
	conf := filepath.Join(t.TempDir(), "registries.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, "[[registry]]\nlocation = %q\ninsecure = true\n", address), 0o600); err != nil {
		t.Fatal(err)
	}
	dataDir, name := t.TempDir(), address+"/team/tools"
	pull := func(password string, flags ...string) *exec.Cmd {
		cmd := self(t, append([]string{"doctor", "--data-dir=" + dataDir, "--registry-username=somebody", "--pull=docker://" + name}, flags...)...)
		cmd.Env = append(cmd.Env, "TERM=xterm", "NO_COLOR=", "CONTAINERS_REGISTRIES_CONF="+conf, registryPasswordEnv+"="+password)
		return cmd
	}
	doctor := func(password string) (said string, err error) {
		out, err := pull(password).CombinedOutput()
		if strings.Contains(string(out), password) {
			t.Errorf("the password was printed:\n%s", out)
		}
		return string(out), err
	}
	if said, err := doctor("wrong-one"); err == nil || !strings.Contains(said, "PROBLEM") || !strings.Contains(said, registryPasswordEnv) {
		t.Errorf("wrong password: %v\n%s", err, said)
	}
	said, err := doctor("hush-hush")
	for _, want := range []string{"Trying to pull " + name, name + " is ", name + "@sha256:"} {
		if err != nil || !strings.Contains(said, want) {
			t.Errorf("%v, want %q in:\n%s", err, want, said)
		}
	}
	// A person sees what podman says once, in one line that is gone in the end.
	cmd := pull("hush-hush")
	shown, err := onTerminal(t, cmd, &cmd.Stdout, &cmd.Stderr)
	if err != nil || !strings.Contains(shown, "\r\x1b[KTrying to pull "+name) || strings.Contains(shown, "\nTrying") || strings.Contains(shown, "  Trying") ||
		!strings.Contains(shown, "\r\x1b[K\x1b[32mok     \x1b[0m  image") {
		t.Errorf("the terminal shows %q, %v", shown, err)
	}
	if out, err := exec.Command("podman", "rmi", name).CombinedOutput(); err != nil {
		t.Errorf("podman rmi: %v\n%s", err, out)
	}
}
