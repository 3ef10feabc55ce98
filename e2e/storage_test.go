package e2e_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/protobuf/proto"
)

// Builds of the whole workspace by Bazel 7, by the ways in which it can store and
// fetch blobs. Each has a hearth of its own, so that every blob takes that way.

// zstdOfBazel7 is where Debian's Bazel finds the compressor that it is not linked with.
const zstdOfBazel7 = "--host_jvm_args=-Djava.library.path=/usr/lib/x86_64-linux-gnu"

func TestStorageOfBazel7(t *testing.T) {
	c := newBazel7(t, startHearth(t, sidRoot(t)), zstdOfBazel7)
	for _, s := range []struct {
		name string
		run  func(*testing.T, *client)
	}{
		{"CompressesBlobs", compressesBlobs},
		{"DownloadsNothingOfAll", downloadsNothingOfAll},
		{"BuildsThroughAnotherServer", buildsThroughAnotherServer},
		{"DownloadsByTheServer", downloadsByTheServer},
		{"HealsDamagedBlobs", healsDamagedBlobs},
	} {
		t.Run(s.name, func(t *testing.T) { s.run(t, c) })
	}
}

// TestBLAKE3OfBazel7 is apart since the digest function is a startup option.
// REAPI B5, D3, E17, K10
func TestBLAKE3OfBazel7(t *testing.T) {
	c := newBazel7(t, startHearth(t, sidRoot(t)), "--digest_function=blake3")
	calls := c.buildAllAnew(t)
	for _, name := range []string{"/blobs/blake3/", "uploads/"} {
		if !bytes.Contains(calls, []byte(name)) {
			t.Errorf("no call of Bazel has %q in it", name)
		}
	}
	c.buildAllFromCache(t)
}

// buildAllAnew builds everything where nothing is in the cache, and returns the log
// of Bazel's calls, in which names are to be found.
func (c *client) buildAllAnew(t *testing.T, flags ...string) (calls []byte) {
	t.Helper()
	log := filepath.Join(filepath.Dir(c.workspace), "calls")
	c.want(t, 0, []string{"clean"})
	ran := c.want(t, 0, append(append(everything, flags...), "--remote_grpc_log="+log)).processes(t)
	if ran["remote"] < 40 || ran["remote cache hit"] > 0 {
		t.Errorf("the build ran %v, want 40 or more, all remote", ran)
	}
	calls, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	return calls
}

// buildAllFromCache builds everything where all is in the cache.
func (c *client) buildAllFromCache(t *testing.T, flags ...string) {
	t.Helper()
	c.want(t, 0, []string{"clean"})
	ran := c.want(t, 0, append(everything, flags...)).processes(t)
	if ran["remote"] != uncached || ran["remote cache hit"] < 40-uncached {
		t.Errorf("the build ran %v, want %d remote and the others from the cache", ran, uncached)
	}
	checkOutputs(t, c)
}

// REAPI D4, D16, D17, D35, K6
func compressesBlobs(t *testing.T, c *client) {
	c.use(t, startHearth(t, sidRoot(t)))
	calls := c.buildAllAnew(t, "--experimental_remote_cache_compression")
	checkOutputs(t, c)
	// Each call that was compressed, and none that was not.
	if n := bytes.Count(calls, []byte("/compressed-blobs/zstd/")); n < 40 {
		t.Errorf("%d compressed blobs were moved, want 40 or more", n)
	}
	// What came compressed serves others as well.
	c.buildAllFromCache(t)
}

// REAPI E3, K9
func downloadsNothingOfAll(t *testing.T, c *client) {
	c.use(t, startHearth(t, sidRoot(t)))
	c.buildAllAnew(t, "--remote_download_minimal")
	for _, name := range []string{"genrules/joined.txt", "cc/hello", "trees/leaves/sub/leaf3.txt", "odd/count_large.txt"} {
		if _, err := os.Lstat(filepath.Join(c.workspace, "bazel-bin", name)); !os.IsNotExist(err) {
			t.Errorf("%s is there (%v), want it to stay on hearth", name, err)
		}
	}
	c.want(t, 0, []string{"test", "--remote_download_minimal", "//cc:greeting_test", "//tests:pass_test"}, "2 tests pass.")
	c.want(t, 0, append(everything, "--remote_download_outputs=all"))
	checkOutputs(t, c)
}

// buildsThroughAnotherServer: all blobs and results are on the server behind; the
// one in front can lose all it has.
func buildsThroughAnotherServer(t *testing.T, c *client) {
	back := startHearth(t, sidRoot(t))
	dataDir := filepath.Join(shortTempDir(t), "data")
	front := startHearthOn(t, sidRoot(t), dataDir, "--cas="+back.endpoint(t))
	c.use(t, front)
	c.buildAllAnew(t)
	checkOutputs(t, c)
	front.stop(t)
	if err := os.RemoveAll(dataDir); err != nil {
		t.Fatal(err)
	}
	c.use(t, startHearthOn(t, sidRoot(t), dataDir, "--cas="+back.endpoint(t)))
	c.buildAllFromCache(t)
	// The server behind knows it all, for whoever asks there.
	c.use(t, back)
	c.buildAllFromCache(t)
	// What is run in front needs inputs that are behind.
	c.use(t, startHearthOn(t, sidRoot(t), filepath.Join(shortTempDir(t), "data"), "--cas="+back.endpoint(t)))
	c.want(t, 0, []string{"clean"})
	ran := c.want(t, 0, []string{"build", "--remote_download_minimal", "--noremote_accept_cached", "//genrules/...", "//trees/..."}).processes(t)
	if ran["remote"] < 10 {
		t.Errorf("the build ran %v, want 10 or more remote", ran)
	}
}

// addPackage adds files to the workspace, or replaces them.
func (c *client) addPackage(t *testing.T, name string, files map[string]string) {
	t.Helper()
	dir := filepath.Join(c.workspace, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for file, text := range files {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// origin is a file server on loopback that knows who asked.
type origin struct {
	url string

	mu     sync.Mutex // guards agents
	agents []string
}

func startOrigin(t *testing.T, file []byte) *origin {
	t.Helper()
	o := &origin{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o.mu.Lock()
		o.agents = append(o.agents, r.UserAgent())
		o.mu.Unlock()
		if r.URL.Path != "/archive/file.txt" {
			http.NotFound(w, r)
			return
		}
		if _, err := w.Write(file); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(server.Close)
	o.url = server.URL
	return o
}

// askedBy returns who has asked since it was last called.
func (o *origin) askedBy() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	agents := o.agents
	o.agents = nil
	return agents
}

// downloadsByTheServer: an external file is fetched by hearth, once, and an action
// has it as an input. REAPI J3, J7, J24
func downloadsByTheServer(t *testing.T, c *client) {
	file := []byte(strings.Repeat("a line of what was downloaded\n", 10_000))
	o := startOrigin(t, file)
	h := startHearthOn(t, sidRoot(t), filepath.Join(shortTempDir(t), "data"), "--asset-allow-network=127.0.0.0/8")
	c.use(t, h)
	module := c.read(t, "MODULE.bazel")
	defer c.addPackage(t, ".", map[string]string{"MODULE.bazel": module})
	files := func(sum string) string {
		return fmt.Sprintf(`
http_file = use_repo_rule("@bazel_tools//tools/build_defs/repo:http.bzl", "http_file")
[http_file(name = name, urls = ["%s/missing/file.txt", "%s/archive/file.txt"], sha256 = %q) for name in ["first", "second"]]
`, o.url, o.url, sum)
	}
	c.addPackage(t, ".", map[string]string{"MODULE.bazel": module + files(fmt.Sprintf("%x", sha256.Sum256(file)))})
	c.addPackage(t, "downloads", map[string]string{"BUILD.bazel": `
[genrule(name = name, srcs = ["@%s//file" % name], outs = [name + ".txt"], cmd = "wc -l < $< > $@") for name in ["first", "second"]]
`})
	defer os.RemoveAll(filepath.Join(c.workspace, "downloads"))
	build := []string{"build", "--experimental_remote_downloader=" + h.endpoint(t), "--noexperimental_remote_downloader_local_fallback", "--repository_cache="}
	c.want(t, 0, append(build, "//downloads:first"))
	if got := c.read(t, "bazel-bin/downloads/first.txt"); got != "10000\n" {
		t.Errorf("the action counted %q", got)
	}
	asked := o.askedBy()
	if len(asked) != 2 || slices.ContainsFunc(asked, func(agent string) bool { return strings.Contains(strings.ToLower(agent), "bazel") }) {
		t.Errorf("the origin was asked by %q, want hearth alone, for the missing file and the other", asked)
	}
	// The next who wants the file needs no origin.
	c.want(t, 0, append(build, "//downloads:second"))
	if asked := o.askedBy(); len(asked) > 0 {
		t.Errorf("the origin was asked again, by %q", asked)
	}
	// A file that is not what it should be is refused. Bazel 7 does not show why.
	c.addPackage(t, ".", map[string]string{"MODULE.bazel": module + files(strings.Repeat("0", 64))})
	c.want(t, 1, append(build, "//downloads:first"), "Checksum was")
}

// healsDamagedBlobs: bytes on the disk change under a source file and an output.
// REAPI C20, E2
func healsDamagedBlobs(t *testing.T, c *client) {
	h := startHearth(t, sidRoot(t))
	c.use(t, h)
	source := strings.Repeat("a source of more than 32 KiB\n", 5000)
	c.addPackage(t, "damaged", map[string]string{
		"source.txt": source,
		"BUILD.bazel": `
genrule(name = "output", srcs = ["source.txt"], outs = ["output.txt"], cmd = "tr a-z A-Z < $< > $@")
[genrule(name = name, srcs = ["output.txt"], outs = [name + ".txt"], cmd = "wc -l < $< > $@") for name in ["count", "again"]]
`,
	})
	defer os.RemoveAll(filepath.Join(c.workspace, "damaged"))
	build := func(target string, remote, cached int) {
		t.Helper()
		if ran := c.want(t, 0, []string{"build", "//damaged:" + target}).processes(t); ran["remote"] != remote || ran["remote cache hit"] != cached {
			t.Errorf("the build of %s ran %v, want %d remote and %d from the cache", target, ran, remote, cached)
		}
		if got := c.read(t, "bazel-bin/damaged/"+target+".txt"); got != "5000\n" {
			t.Errorf("the action counted %q", got)
		}
	}
	build("count", 2, 0)
	blobs := []*repb.Digest{digestOf([]byte(source)), digestOf([]byte(strings.ToUpper(source)))}
	// Whoever reads them hears that they are missing; so do all others from then on.
	for _, d := range blobs {
		h.damage(t, d)
		if data, err := h.readBlob(t, d); err == nil || !strings.Contains(err.Error(), "code = NotFound") || len(data) > 0 {
			t.Errorf("a damaged blob is read as %d bytes, %v", len(data), err)
		}
	}
	if missing := h.missing(t, blobs...); len(missing) != len(blobs) {
		t.Errorf("of two damaged blobs %v are missing", missing)
	}
	if logged := h.logged(); !strings.Contains(logged, blobs[0].GetHash()) || !strings.Contains(logged, blobs[1].GetHash()) {
		t.Error("hearth did not log which blobs it dropped")
	}
	// The output is made again, for which the source is uploaded again.
	c.want(t, 0, []string{"clean"})
	build("count", 1, 1)
	h.holds(t, blobs)
	// The first who needs a damaged blob may as well be an action. Bazel has no copy
	// of an intermediate output, and makes it again if it may start over. REAPI K7
	h.damage(t, blobs[1])
	c.want(t, 0, []string{"build", "--experimental_remote_cache_eviction_retries=1", "//damaged:again"})
	h.holds(t, blobs)
	c.want(t, 0, []string{"clean"})
	build("again", 0, 2)
	// Nobody has to need it: hearth doctor looks at all.
	h.doctor(t, 1, "in use by process "+strconv.Itoa(h.cmd.Process.Pid))
	h.stop(t)
	h.doctor(t, 0, "all whole")
	h.damage(t, blobs[0])
	h.doctor(t, 1, "dropped  blob sha256:"+blobs[0].GetHash())
	h.doctor(t, 0, "all whole")
}

// doctor checks the store, and must end and say so.
func (h *hearth) doctor(t *testing.T, exit int, text string) {
	t.Helper()
	cmd := exec.Command("../bin/hearth", "doctor", "--store", "--data-dir="+h.dataDir)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != exit || !strings.Contains(string(out), text) {
		t.Errorf("hearth doctor ended with %v, want %d, and printed no %q:\n%s", err, exit, text, out)
	}
}

// holds checks that blobs are there, and whole.
func (h *hearth) holds(t *testing.T, blobs []*repb.Digest) {
	t.Helper()
	if missing := h.missing(t, blobs...); len(missing) > 0 {
		t.Errorf("%v are missing", missing)
	}
	for _, d := range blobs {
		if got, err := h.readBlob(t, d); err != nil || !proto.Equal(digestOf(got), d) {
			t.Errorf("%d bytes of %v are not the blob (%v)", len(got), d, err)
		}
	}
}

// damage changes a byte of a blob on the disk, and of its executable copy.
func (h *hearth) damage(t *testing.T, d *repb.Digest) {
	t.Helper()
	var found []string
	err := filepath.WalkDir(filepath.Join(h.dataDir, "store"), func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() && strings.Contains(filepath.Base(path), d.GetHash()) {
			found = append(found, path)
		}
		return err
	})
	if err != nil || len(found) == 0 {
		t.Fatalf("the files of %v are %q (%v)", d, found, err)
	}
	for _, name := range found {
		f, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		_, err = f.WriteAt([]byte{0}, d.GetSizeBytes()/2)
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
	}
}
