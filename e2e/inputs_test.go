package e2e_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"
)

// caller is a client that says more than Bazel does.
type caller struct {
	t    *testing.T
	conn *grpc.ClientConn
}

// newCaller calls the server that told its user to build on it.
func newCaller(t *testing.T, h *hearth) *caller {
	t.Helper()
	_, rest, _ := strings.Cut(h.bazelrc, "grpc://")
	address, _, _ := strings.Cut(rest, "\n")
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &caller{t, conn}
}

// put stores a blob.
func (c *caller) put(data []byte) *repb.Digest {
	c.t.Helper()
	sum := sha256.Sum256(data)
	d := &repb.Digest{Hash: hex.EncodeToString(sum[:]), SizeBytes: int64(len(data))}
	resp, err := repb.NewContentAddressableStorageClient(c.conn).BatchUpdateBlobs(c.t.Context(), &repb.BatchUpdateBlobsRequest{
		Requests: []*repb.BatchUpdateBlobsRequest_Request{{Digest: d, Data: data}},
	})
	if err != nil || resp.Responses[0].GetStatus().GetCode() != 0 {
		c.t.Fatal(err, resp)
	}
	return d
}

// read reads a blob, which must be what its digest says.
func (c *caller) read(d *repb.Digest) string {
	c.t.Helper()
	resp, err := repb.NewContentAddressableStorageClient(c.conn).BatchReadBlobs(c.t.Context(), &repb.BatchReadBlobsRequest{Digests: []*repb.Digest{d}})
	if err != nil || resp.Responses[0].GetStatus().GetCode() != 0 {
		c.t.Fatal(err, resp)
	}
	data := resp.Responses[0].Data
	if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != d.Hash {
		c.t.Errorf("blob %s reads as something else: %.40q", d.Hash, data)
	}
	return string(data)
}

func (c *caller) message(m proto.Message) *repb.Digest {
	c.t.Helper()
	data, err := proto.Marshal(m)
	if err != nil {
		c.t.Fatal(err)
	}
	return c.put(data)
}

// tree stores a directory of files, by their paths.
func (c *caller) tree(files map[string]string) *repb.Digest {
	c.t.Helper()
	root, sub := &repb.Directory{}, map[string]map[string]string{}
	for _, path := range slices.Sorted(maps.Keys(files)) {
		if dir, name, ok := strings.Cut(path, "/"); ok {
			if sub[dir] == nil {
				sub[dir] = map[string]string{}
			}
			sub[dir][name] = files[path]
			continue
		}
		root.Files = append(root.Files, &repb.FileNode{Name: path, Digest: c.put([]byte(files[path])), IsExecutable: path == "run"})
	}
	for _, dir := range slices.Sorted(maps.Keys(sub)) {
		root.Directories = append(root.Directories, &repb.DirectoryNode{Name: dir, Digest: c.tree(sub[dir])})
	}
	return c.message(root)
}

// start asks for an action, a shell script.
func (c *caller) start(ctx context.Context, root *repb.Digest, props []string, script string, outputs ...string) (repb.Execution_ExecuteClient, error) {
	platform := &repb.Platform{}
	slices.Sort(props)
	for _, p := range props {
		platform.Properties = append(platform.Properties, &repb.Platform_Property{Name: p, Value: "true"})
	}
	action := c.message(&repb.Action{
		CommandDigest:   c.message(&repb.Command{Arguments: []string{"/bin/sh", "-c", script}, OutputPaths: outputs}),
		InputRootDigest: root, Platform: platform, DoNotCache: true,
	})
	return repb.NewExecutionClient(c.conn).Execute(ctx, &repb.ExecuteRequest{ActionDigest: action, SkipCacheLookup: true})
}

// run runs an action that must end well, and returns what it printed.
func (c *caller) run(root *repb.Digest, props []string, script string, outputs ...string) (printed string, resp *repb.ExecuteResponse) {
	c.t.Helper()
	stream, err := c.start(c.t.Context(), root, props, script, outputs...)
	for err == nil && resp == nil {
		op, rerr := stream.Recv()
		if err = rerr; err == nil && op.GetDone() {
			resp = &repb.ExecuteResponse{}
			err = op.GetResponse().UnmarshalTo(resp)
		}
	}
	if err != nil || resp.GetStatus().GetCode() != 0 {
		c.t.Fatalf("%s: %v %v", script, err, resp)
	}
	text := func(raw []byte, d *repb.Digest) string {
		if len(raw) == 0 && d.GetSizeBytes() > 0 {
			return c.read(d)
		}
		return string(raw)
	}
	r := resp.Result
	if r.ExitCode != 0 {
		c.t.Fatalf("%s\nexited with %d: %s\n%s", script, r.ExitCode, text(r.StderrRaw, r.StderrDigest), resp.Message)
	}
	return text(r.StdoutRaw, r.StdoutDigest), resp
}

// inputs are enough files, and large enough ones, for all that is done with them.
func inputs() map[string]string {
	files := map[string]string{
		"run": "#!/bin/sh\necho ran\n", "small": "small\n", "empty": "", "large": strings.Repeat("0123456789abcdef", 20_000),
		"dir/old": "old\n", "dir/large": strings.Repeat("fedcba9876543210", 10_000),
	}
	for i := range 60 {
		files[fmt.Sprintf("many/%02d", i)] = fmt.Sprintln(i)
	}
	return files
}

// show is a script that looks at all of the inputs, and shown what it prints.
const show = `./run && cat small dir/old && wc -c < large && wc -c < dir/large && ls many | wc -l && find . | wc -l && ls -A`

func shown() string {
	return "ran\nsmall\nold\n320000\n160000\n60\n69\ndir\nempty\nlarge\nmany\nrun\nsmall\n"
}

// TestInputRoots: whatever an action does to its input root, the next one in the
// same container has it as it was, and so has the store.
func TestInputRoots(t *testing.T) {
	for _, mode := range []string{"mount", "copy"} {
		t.Run(mode, func(t *testing.T) {
			dataDir := filepath.Join(shortTempDir(t), "data")
			h := startCommand(t, dataDir, exec.Command(program(t), append(serveArgs("/", dataDir), "--input-roots="+mode, "--slots=1")...))
			c := newCaller(t, h)
			root := c.tree(inputs())
			for _, user := range [][]string{{}, {"writable-inputs"}, {"dockerRunAsRoot"}} {
				c.checkRoots(root, append(user, "recycle-runner"), mode == "mount")
			}
			if mounted := strings.Contains(mountsOf(t, dataDir), "/roots/"); mounted != (mode == "mount") {
				t.Errorf("mounted: %v", mounted)
			}
		})
	}
}

// checkRoots runs actions for one user.
func (c *caller) checkRoots(root *repb.Digest, props []string, tells bool) {
	c.t.Helper()
	writable := len(props) > 1
	if text, resp := c.run(root, slices.Clone(props), show); text != shown() || resp.Message != "" {
		c.t.Errorf("%v: at first, the action sees %q, and hears %q", props, text, resp.Message)
	}
	const container = "readlink /proc/self/ns/mnt"
	first, _ := c.run(root, slices.Clone(props), container)
	spoil := "rm -r dir && mkdir -p dir/a/b out && echo new > out/o && touch dir/a/b/f && chmod 000 dir/a/b dir/a dir && rm run && ln -s /etc/passwd run && echo x > more && mv many few"
	if writable {
		spoil = "echo more >> large && echo more >> small && > dir/large && chmod 600 empty && " + spoil
	} else {
		spoil = "! (echo more >> large) 2> /dev/null && ! (> dir/large) 2> /dev/null && ! chmod 777 small 2> /dev/null && " + spoil
	}
	_, resp := c.run(root, slices.Clone(props), spoil, "out/o", "large", "small")
	var got []string
	for _, f := range resp.Result.OutputFiles {
		got = append(got, fmt.Sprint(f.Path, " ", f.Digest.SizeBytes))
	}
	want := []string{"large 320000", "out/o 4", "small 6"}
	if writable {
		want = []string{"large 320005", "out/o 4", "small 11"}
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		c.t.Errorf("%v: outputs %q, want %q", props, got, want)
	}
	if told := strings.Contains(resp.Message, "changed some of its inputs") && strings.Contains(resp.Message, `"dir"`); told != tells {
		c.t.Errorf("%v: the client hears %q", props, resp.Message)
	}
	if text, _ := c.run(root, slices.Clone(props), show); text != shown() {
		c.t.Errorf("%v: after another action, the action sees %q", props, text)
	}
	if last, _ := c.run(root, slices.Clone(props), container); last != first {
		c.t.Errorf("%v: the container was %s, and is %s", props, first, last)
	}
	for _, name := range []string{"large", "small", "dir/large"} {
		sum := sha256.Sum256([]byte(inputs()[name]))
		c.read(&repb.Digest{Hash: hex.EncodeToString(sum[:]), SizeBytes: int64(len(inputs()[name]))})
	}
}

// mountsOf lists the mounts below a directory.
func mountsOf(t *testing.T, dir string) string {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	var below strings.Builder
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, " "+dir+"/") {
			below.WriteString(line)
		}
	}
	return below.String()
}

// TestKilledHearthLeavesNoMount: with input roots in use, kill -9 and a new start
// leave no mount, and the next action has its inputs.
func TestKilledHearthLeavesNoMount(t *testing.T) {
	dataDir := filepath.Join(shortTempDir(t), "data")
	first := startHearthOn(t, "/", dataDir)
	c := newCaller(t, first)
	root := c.tree(inputs())
	const endless = "hearth-e2e-mounted"
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	stream, err := c.start(ctx, root, []string{"recycle-runner"}, "sleep 3600; : "+endless)
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the action to run", func() bool { return len(processesWith(t, endless)) > 0 })
	if mounts := mountsOf(t, dataDir); strings.Count(mounts, "\n") < 2 {
		t.Errorf("mounts of an action in flight: %q", mounts)
	}
	first.kill(t)
	for err == nil {
		_, err = stream.Recv()
	}
	if errors.Is(err, io.EOF) {
		t.Error("the action ended")
	}
	second := startHearthOn(t, "/", dataDir)
	if mounts := mountsOf(t, dataDir); mounts != "" {
		t.Errorf("mounts after the next start:\n%s", mounts)
	}
	if text, _ := newCaller(t, second).run(root, []string{"recycle-runner"}, show); text != shown() {
		t.Errorf("after the crash, the action sees %q", text)
	}
}

// TestNothingGrowsWithTrees runs actions with larger input roots, most of them
// new: once as many are kept as there may be, nothing grows any more but what the
// store keeps in memory of new blobs.
func TestNothingGrowsWithTrees(t *testing.T) {
	h := startHearth(t, "/")
	h.trees(t, 300)
	before := h.footprint(t)
	h.trees(t, 700)
	after := h.footprint(t)
	t.Logf("after 600 actions: %+v", before)
	t.Logf("after 2,000 actions: %+v", after)
	const slack, memory = 4, 64 << 10
	if after.residentKiB > before.residentKiB+memory {
		t.Errorf("resident memory grew from %d to %d KiB", before.residentKiB, after.residentKiB)
	}
	if after.files > before.files+slack || after.mounts > before.mounts+slack || after.leftovers > 0 || after.zombies > 0 {
		t.Errorf("something was left: %+v, then %+v", before, after)
	}
}

// trees runs actions on one input root so often, and on as many that differ in
// one file.
func (h *hearth) trees(t *testing.T, repeat int) {
	t.Helper()
	cmd := exec.Command("../bin/hearth", "bench", "tree", "--endpoint="+h.endpoint(t), "--json",
		"--files=400", "--directories=20", "--first=1", fmt.Sprintf("--repeat=%d", repeat))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("hearth bench: %v\n%s", err, &stderr)
	}
	var results []struct {
		Name  string
		Count int
	}
	if err := json.Unmarshal(out, &results); err != nil {
		t.Fatalf("hearth bench printed %s (%v)", out, err)
	}
	got := map[string]int{}
	for _, r := range results {
		got[r.Name] += r.Count
	}
	want := map[string]int{"400 files in 20 directories, first": 1, "again": repeat, "with 1 changed": repeat, "  the input root alone": 2*repeat + 1}
	if !maps.Equal(got, want) {
		t.Errorf("hearth bench measured %v, want %v", got, want)
	}
}
