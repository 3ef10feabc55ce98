// Package sdks_test is a client of the Remote Execution API that is built with
// the library of remote-apis-sdks, as reclient is. The tests of package e2e run
// it, against a hearth that they started, once for each digest function: to the
// library that is a global of the process.
package sdks_test

import (
	"bytes"
	"context"
	"crypto"
	_ "crypto/sha1"
	_ "crypto/sha512"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bazelbuild/remote-apis-sdks/go/pkg/client"
	"github.com/bazelbuild/remote-apis-sdks/go/pkg/command"
	"github.com/bazelbuild/remote-apis-sdks/go/pkg/digest"
	"github.com/bazelbuild/remote-apis-sdks/go/pkg/filemetadata"
	"github.com/bazelbuild/remote-apis-sdks/go/pkg/outerr"
	"github.com/bazelbuild/remote-apis-sdks/go/pkg/rexec"
	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestMain(m *testing.M) {
	functions := map[string]crypto.Hash{"SHA256": crypto.SHA256, "SHA1": crypto.SHA1, "SHA512": crypto.SHA512}
	function, ok := functions[os.Getenv("DIGEST_FUNCTION")]
	if !ok || os.Getenv("SERVICE") == "" {
		fmt.Fprintln(os.Stderr, "DIGEST_FUNCTION and SERVICE are not set: the tests of package e2e run these tests")
		os.Exit(2)
	}
	digest.HashFn = function
	digest.Empty = digest.NewFromBlob(nil)
	os.Exit(m.Run())
}

func dial(t *testing.T) *client.Client {
	t.Helper()
	// The library compares its function with the only one that servers of old had.
	look := client.StartupCapabilities(digest.HashFn == crypto.SHA256)
	c, err := client.NewClient(t.Context(), "", client.DialParams{Service: os.Getenv("SERVICE"), NoSecurity: true}, look)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// inputs is a tree with something of every kind, large enough for each way in
// which the library uploads.
func inputs(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for name, data := range map[string]string{
		"src/a.txt": "from a\n", "src/deep/er/b.txt": "from b\n", "src/empty": "", "src/large": strings.Repeat("large\n", 1<<20),
	} {
		name = filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "src/run.sh"), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	return root
}

const script = `set -e
mkdir -p out/tree/sub
cat src/a.txt src/deep/er/b.txt > out/joined
wc -c < src/large > out/tree/count
cp src/run.sh out/tree/sub/program
cp src/large out/tree/sub/copy
[ -e src/empty ] && [ ! -s src/empty ]
echo "$GREETING"
echo to stderr >&2
`

// REAPI K33, D30, D31, C22, F29: what reclient does with an action: it uploads what
// is missing, looks into the cache, executes, downloads at once, and finds the
// result in the cache the next time.
func TestLibraryExecutes(t *testing.T) {
	c := dial(t)
	root := inputs(t)
	cmd := &command.Command{
		Identifiers: &command.Identifiers{CommandID: "c", InvocationID: "invocation-of-the-library", ToolName: "e2e"},
		Args:        []string{"src/run.sh"},
		ExecRoot:    root,
		InputSpec:   &command.InputSpec{Inputs: []string{"src"}, EnvironmentVariables: map[string]string{"GREETING": "hello"}},
		OutputFiles: []string{"out/joined"}, OutputDirs: []string{"out/tree"},
		Platform: map[string]string{"recycle-runner": "true"},
		Timeout:  time.Minute,
	}
	for _, cached := range []bool{false, true} {
		out, printed := t.TempDir(), outerr.NewRecordingOutErr()
		ec, err := (&rexec.Client{FileMetadataCache: filemetadata.NewNoopCache(), GrpcClient: c}).NewContext(
			t.Context(), cmd, &command.ExecutionOptions{AcceptCached: true, DownloadOutputs: true, DownloadOutErr: true}, printed)
		if err != nil {
			t.Fatal(err)
		}
		ec.GetCachedResult()
		if hit := ec.Result != nil && ec.Result.Status == command.CacheHitResultStatus; hit != cached {
			t.Fatalf("cache hit: %v, want %v (%v)", hit, cached, ec.Result)
		}
		if !cached {
			ec.ExecuteRemotely()
		}
		if ec.Result == nil || !ec.Result.IsOk() {
			t.Fatalf("the action ended with %+v: %s", ec.Result, printed.Stderr())
		}
		ec.DownloadOutputs(out)
		check(t, out, printed)
	}
}

func check(t *testing.T, out string, printed *outerr.RecordingOutErr) {
	t.Helper()
	if got := fmt.Sprintf("%s|%s", printed.Stdout(), printed.Stderr()); got != "hello\n|to stderr\n" {
		t.Errorf("it printed %q", got)
	}
	for name, want := range map[string]string{
		"out/joined": "from a\nfrom b\n", "out/tree/count": "6291456\n",
		"out/tree/sub/program": "#!/bin/sh\n" + script, "out/tree/sub/copy": strings.Repeat("large\n", 1<<20),
	} {
		got, err := os.ReadFile(filepath.Join(out, name))
		if err != nil || string(got) != want {
			t.Errorf("%s has %d bytes (%v), want %d", name, len(got), err, len(want))
		}
	}
	if info, err := os.Stat(filepath.Join(out, "out/tree/sub/program")); err != nil || info.Mode()&0o100 == 0 {
		t.Errorf("the program is not executable: %v, %v", info, err)
	}
}

// REAPI C1, C16, C22, C24, D30, D31, D32: the library's ways to the storage.
func TestLibraryReadsBack(t *testing.T) {
	c := dial(t)
	root, entries, _, err := c.ComputeMerkleTree(t.Context(), inputs(t), "", "", &command.InputSpec{Inputs: []string{"src"}}, filemetadata.NewNoopCache())
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.UploadIfMissing(t.Context(), entries...); err != nil {
		t.Fatal(err)
	}
	all := []digest.Digest{root}
	for _, e := range entries {
		all = append(all, e.Digest)
	}
	absent := digest.NewFromBlob([]byte(t.Name() + time.Now().String()))
	missing, err := c.MissingBlobs(t.Context(), append(slices.Clone(all), absent))
	if err != nil || len(missing) != 1 || missing[0] != absent {
		t.Errorf("missing are %v (%v), want %v", missing, err, absent)
	}
	dirs, err := c.GetDirectoryTree(t.Context(), root.ToProto())
	if err != nil || len(dirs) != 4 {
		t.Errorf("the tree has %d directories (%v), want 4", len(dirs), err)
	}
	blobs, err := c.BatchDownloadBlobs(t.Context(), []digest.Digest{root, digest.Empty})
	if err != nil || len(blobs) != 2 || digest.NewFromBlob(blobs[root]) != root {
		t.Errorf("%d blobs came, %v", len(blobs), err)
	}
	large := strings.Repeat("large\n", 1<<20)
	d := digest.NewFromBlob([]byte(large))
	if got, _, err := c.ReadBlob(t.Context(), d); err != nil || string(got) != large {
		t.Errorf("%d bytes came, %v", len(got), err)
	}
	if got, _, err := c.ReadBlobRange(t.Context(), d, 6*1000, 12); err != nil || string(got) != "large\nlarge\n" {
		t.Errorf("%q came, %v", got, err)
	}
	if _, _, err := c.ReadBlob(t.Context(), absent); status.Code(err) != codes.NotFound {
		t.Errorf("what is absent answers %v", err)
	}
	out := t.TempDir()
	if _, _, err := c.DownloadDirectory(t.Context(), root, out, filemetadata.NewNoopCache()); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(out, "src/large")); err != nil || !bytes.Equal(got, []byte(large)) {
		t.Errorf("the downloaded file has %d bytes, %v", len(got), err)
	}
}

// REAPI F45, F52, F54, G35: how actions fail, in the library's eyes.
func TestLibrarySeesFailures(t *testing.T) {
	c := dial(t)
	run := func(a *client.Action) (*repb.ActionResult, error) {
		a.DoNotCache, a.SkipCache = true, true
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		return c.ExecuteAction(ctx, a)
	}
	if _, err := c.WriteProto(t.Context(), &repb.Directory{}); err != nil {
		t.Fatal(err)
	}
	result, err := run(&client.Action{Args: []string{"/bin/sh", "-c", "echo hm; exit 3"}, InputRoot: digest.Empty, OutputFiles: []string{"never"}})
	if err != nil || result.GetExitCode() != 3 || len(result.GetOutputFiles()) != 0 {
		t.Errorf("%v, %v", result, err)
	}
	result, err = run(&client.Action{Args: []string{"/bin/sh", "-c", "echo before; sleep 60"}, InputRoot: digest.Empty, Timeout: time.Second})
	if err == nil || !strings.Contains(err.Error(), "DeadlineExceeded") || result == nil {
		t.Errorf("the timeout answers %v, %v", result, err)
	} else if d, err := digest.NewFromProto(result.GetStdoutDigest()); err != nil {
		t.Error(err)
	} else if printed, _, err := c.ReadBlob(t.Context(), d); err != nil || string(printed) != "before\n" {
		t.Errorf("it printed %q (%v)", printed, err)
	}
	lost := digest.NewFromBlob([]byte("an input root that nobody uploaded"))
	if _, err = run(&client.Action{Args: []string{"/bin/true"}, InputRoot: lost}); err == nil || !strings.Contains(err.Error(), lost.Hash) {
		t.Errorf("the missing input root answers %v", err)
	}
}
