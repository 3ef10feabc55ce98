package console_test

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/reapi/console"
)

// get asks as somebody, with the response's headers.
func (r *rig) get(who, path string) (*http.Response, string) {
	r.Helper()
	req, err := http.NewRequest(http.MethodGet, r.url+path, http.NoBody)
	if err != nil {
		r.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+who)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		r.Fatal(err)
	}
	return resp, string(text)
}

func pathOf(kind string, d cas.Digest) string { return "/" + kind + "/sha256/" + d.Name() }

// A browser keeps a blob as a file or shows it as text, and never runs it.
func TestBlobs(t *testing.T) {
	r := newRig(t)
	d := r.blob("", "<script>alert(1)</script>")
	resp, text := r.get("reader", pathOf("blobs", d)+"?instance=team&name=a%22b%0d%0a.html")
	if resp.StatusCode != http.StatusOK || text != "<script>alert(1)</script>" || resp.Header.Get("Content-Type") != "application/octet-stream" ||
		!strings.HasPrefix(resp.Header.Get("Content-Disposition"), "attachment; filename") || !strings.Contains(resp.Header.Get("Content-Security-Policy"), "sandbox") {
		t.Errorf("%s %v %s", resp.Status, resp.Header, text)
	}
	resp, _ = r.get("reader", pathOf("blobs", d)+"?instance=team&name=a.html&show=text")
	if resp.Header.Get("Content-Type") != "text/plain; charset=utf-8" || resp.Header.Get("X-Content-Type-Options") != "nosniff" ||
		!strings.HasPrefix(resp.Header.Get("Content-Disposition"), "inline") || !strings.Contains(resp.Header.Get("Content-Security-Policy"), "sandbox") {
		t.Errorf("as text: %v", resp.Header)
	}
	for _, wrong := range []string{"/blobs/sha256/" + d.Hash() + "/7?instance=team", "/blobs/none/" + d.Name() + "?instance=team", "/blobs/sha256/x/1?instance=team", "/blobs/sha256/" + d.Hash() + "/x?instance=team", "/blobs/md5/" + d.Name() + "?instance=team"} {
		if resp, text := r.get("reader", wrong); resp.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %s %s", wrong, resp.Status, text)
		}
	}
}

// Directories of inputs and outputs, by path.
func TestDirectories(t *testing.T) {
	r := newRig(t)
	root := pathOf("inputs", r.inputs(""))
	_, text := r.get("reader", root+"/?instance=team")
	var list []console.Entry
	if err := json.Unmarshal([]byte(text), &list); err != nil || len(list) != 3 || list[0].Name != "sub/" || list[1].Size != 4 || list[2].Target != hostile {
		t.Fatalf("%s %v", text, err)
	}
	_, text = r.get("reader", list[0].URL)
	if err := json.Unmarshal([]byte(text), &list); err != nil || len(list) != 1 || !list[0].Executable {
		t.Fatalf("%s %v", text, err)
	}
	if _, text := r.get("reader", list[0].URL); text != "deep inside" {
		t.Errorf("%s", text)
	}
	r.want("reader", root+"/?instance=team", "a&lt;b&gt;", "link")
	r.want("reader", root+"/sub?instance=team", "deep", "executable", "root</a> / <a")
	if resp, _ := r.get("reader", root+"/none?instance=team"); resp.StatusCode != http.StatusNotFound {
		t.Errorf("a directory that is not there: %s", resp.Status)
	}
	made, err := cas.FromProto(0, r.result("").GetOutputDirectories()[0].GetTreeDigest())
	if err != nil {
		t.Fatal(err)
	}
	_, text = r.get("reader", pathOf("trees", made)+"/below?instance=team")
	if err := json.Unmarshal([]byte(text), &list); err != nil || len(list) != 1 || list[0].Name != "leaf" {
		t.Errorf("%s %v", text, err)
	}
}

// An input root can be had as a file to unpack.
func TestInputsAsTar(t *testing.T) {
	r := newRig(t)
	resp, text := r.get("reader", pathOf("inputs", r.inputs(""))+"/?instance=team&format=tar")
	if resp.Header.Get("Content-Type") != "application/x-tar" {
		t.Fatalf("%s %s", resp.Status, text)
	}
	found := map[string]string{}
	for files := tar.NewReader(strings.NewReader(text)); ; {
		h, err := files.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(files)
		if err != nil {
			t.Fatal(err)
		}
		found[h.Name] = string(data) + h.Linkname
	}
	if len(found) != 4 || found["a<b>"] != "in a" || found["sub/deep"] != "deep inside" || found["link"] != hostile {
		t.Errorf("%q", found)
	}
	// A name that leads elsewhere is in no action, but a client can store it.
	for _, name := range []string{"../up", "..", "", "a/b"} {
		bad := r.message("", &repb.Directory{Files: []*repb.FileNode{{Name: name, Digest: r.blob("", "x").Proto()}}})
		for _, form := range []string{"", "&format=tar"} {
			if resp, text := r.get("reader", pathOf("inputs", bad)+"/?instance=team"+form); resp.StatusCode != http.StatusNotFound {
				t.Errorf("%q: %s %s", name, resp.Status, text)
			}
		}
	}
}

// Whoever may not read in a place learns nothing of what is there: the answer is that
// for a blob which is nowhere.
func TestBlobsOfOthers(t *testing.T) {
	r := newRig(t)
	theirs := map[string]cas.Digest{"blobs": r.blob("b", "secret"), "inputs": r.inputs("b")}
	theirs["trees"], _ = cas.FromProto(0, r.result("b").GetOutputDirectories()[0].GetTreeDigest())
	for kind, d := range theirs {
		suffix := "?"
		if kind != "blobs" {
			suffix = "/?"
		}
		nowhere := pathOf(kind, cas.SHA256.Sum([]byte("nowhere "+kind))) + suffix
		there := pathOf(kind, d) + suffix
		for _, form := range []string{"", "&format=tar", "&show=text"} {
			for _, who := range []string{"reader", "stranger"} {
				for _, place := range []string{"instance=team&tenant=b", "instance=team&tenant=c", "instance=none"} {
					is, text := r.get(who, there+place+form)
					not, other := r.get(who, nowhere+place+form)
					if is.StatusCode != http.StatusNotFound || not.StatusCode != http.StatusNotFound || text != other {
						t.Errorf("%s asks for %s in %s: %s %s; for one that is nowhere: %s %s", who, kind, place, is.Status, text, not.Status, other)
					}
				}
			}
			for _, who := range []string{"tenant", "operator"} {
				if is, text := r.get(who, there+"instance=team&tenant=b"+form); is.StatusCode != http.StatusOK {
					t.Errorf("%s asks for %s: %s %s", who, kind, is.Status, text)
				}
			}
			// Without a tenant in the request it is the caller's own.
			if is, _ := r.get("tenant", there+"instance=team"+form); is.StatusCode != http.StatusOK {
				t.Errorf("a tenant asks for its own: %s", is.Status)
			}
			if is, _ := r.get("operator", there+"instance=team"+form); is.StatusCode == http.StatusOK && kind == "blobs" {
				t.Error("the blob of one tenant is there for another")
			}
		}
	}
}
