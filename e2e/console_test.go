package e2e_test

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"github.com/chromedp/chromedp/kb"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
)

//go:embed testdata/look.js
var lookScript string

// builder asks for actions as a build does: each has a mnemonic, a target and an
// invocation.
type builder struct {
	*caller

	invocation string
	root       *repb.Digest
	ends       []func() // what goes on
}

// task is an action to ask for.
type task struct {
	mnemonic, target, script string
	props, outputs           []string
}

// ask asks for it, and returns the operation's name and the digest.
func (b *builder) ask(ctx context.Context, a task) (stream repb.Execution_ExecuteClient, digest string) {
	b.t.Helper()
	platform := &repb.Platform{}
	for _, p := range slices.Sorted(slices.Values(append(a.props, "recycle-runner=true"))) {
		name, value, _ := strings.Cut(p, "=")
		platform.Properties = append(platform.Properties, &repb.Platform_Property{Name: name, Value: value})
	}
	action := b.message(&repb.Action{
		CommandDigest: b.message(&repb.Command{
			Arguments: []string{"/bin/sh", "-c", a.script}, OutputPaths: a.outputs,
			EnvironmentVariables: []*repb.Command_EnvironmentVariable{{Name: "LANG", Value: "C.UTF-8"}, {Name: "MARKUP", Value: "<script>alert(1)</script>"}},
		}),
		InputRootDigest: b.root, Platform: platform,
	})
	said, err := proto.Marshal(&repb.RequestMetadata{ToolInvocationId: b.invocation, ActionMnemonic: a.mnemonic, TargetId: a.target})
	if err != nil {
		b.t.Fatal(err)
	}
	ctx = metadata.AppendToOutgoingContext(ctx, "build.bazel.remote.execution.v2.requestmetadata-bin", string(said))
	stream, err = repb.NewExecutionClient(b.conn).Execute(ctx, &repb.ExecuteRequest{ActionDigest: action})
	if err != nil {
		b.t.Fatal(err)
	}
	return stream, fmt.Sprintf("%s/%d", action.GetHash(), action.GetSizeBytes())
}

// build asks for an action and waits for its end.
func (b *builder) build(a task) (digest string) {
	b.t.Helper()
	stream, digest := b.ask(b.t.Context(), a)
	for {
		op, err := stream.Recv()
		if err != nil {
			b.t.Fatalf("%s: %v", a.target, err)
		}
		if op.GetDone() {
			return digest
		}
	}
}

// end ends what goes on.
func (b *builder) end() {
	for _, end := range b.ends {
		end()
	}
	b.ends = nil
}

// leave asks for an action that goes on until end.
func (b *builder) leave(a task) (digest string) {
	b.t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(b.t.Context()))
	stream, digest := b.ask(ctx, a)
	op, err := stream.Recv()
	if err != nil {
		b.t.Fatal(err)
	}
	b.ends = append(b.ends, func() {
		_, err := longrunningpb.NewOperationsClient(b.conn).CancelOperation(ctx, &longrunningpb.CancelOperationRequest{Name: op.GetName()})
		if err != nil {
			b.t.Errorf("cancel %s: %v", a.target, err)
		}
		cancel()
	})
	return digest
}

// shownConsole is a server with something of everything, and a browser.
type shownConsole struct {
	*hearth
	*browser

	t       *testing.T
	builder *builder
	// Digests of actions: one that ended well, one that failed, one that goes on and
	// prints, and one that waits.
	good, failed, going, waiting string
	runner                       string
}

const invocationID = "5c4b8f2e-6a0d-4c57-9d5f-0f0b7f3a2c11"

func newShownConsole(t *testing.T) *shownConsole {
	t.Helper()
	h := startHearthWith(t, "/", recycling, "--slots=2", "--audit-rate=1", "--max-runner-actions=30")
	c := newCaller(t, h)
	s := &shownConsole{hearth: h, t: t, builder: &builder{caller: c, invocation: invocationID, root: c.tree(map[string]string{
		"src/main.c": "int main() { return 0; }\n", "src/run": "#!/bin/sh\n", "words": "pear\napple\n", "<b>odd": "x",
	})}}
	b := s.builder
	t.Cleanup(b.end)
	part := func(i int) task {
		return task{"CppCompile", fmt.Sprintf("//cc:part%d", i), fmt.Sprintf("sleep 0.%d; wc -c src/main.c > out/part%d.o", i, i), nil, []string{fmt.Sprintf("out/part%d.o", i)}}
	}
	for i := range 6 {
		b.build(part(i))
	}
	b.build(part(1)) // from the cache
	good := task{"CppLink", "//cc:greet", "mkdir -p out/doc; sort words > out/greet; echo doc > out/doc/a.txt; ln -s greet out/link; echo linked; printf '\\033[1mbold\\033[0m\\n' >&2", nil, []string{"out/greet", "out/doc", "out/link"}}
	s.good = b.build(good)
	s.failed = b.build(task{"Genrule", "//gen:fails", "echo before; echo 'no <such> file' >&2; exit 3", nil, nil})
	b.build(task{"Genrule", "//gen:fails", "echo before; echo 'no <such> file' >&2; exit 3", nil, nil})
	b.build(task{"TestRunner", "//cc:greet_test", "id -u > out", []string{"dockerRunAsRoot=true"}, []string{"out"}})
	b.build(task{"Genrule", "//gen:stamp", "date +%N > out", nil, []string{"out"}})
	waitFor(t, "the audit has found something", func() bool { return strings.Contains(h.json(t, "/audit"), `"digest"`) })
	var list []struct{ Runner struct{ ID string } }
	if err := json.Unmarshal([]byte(h.json(t, "/actions?action="+s.failed)), &list); err != nil || len(list) == 0 {
		t.Fatalf("%+v, %v", list, err)
	}
	s.runner = list[0].Runner.ID
	long := func(name string) task {
		return task{"TestRunner", "//long:" + name, ": " + name + "; for i in $(seq 100000); do echo tick $i; [ $i -gt 3 ] || echo warned $i >&2; sleep 0.3; done", nil, nil}
	}
	s.going = b.leave(long("first"))
	b.leave(long("second"))
	s.waiting = b.leave(long("third"))
	waitFor(t, "an action prints, and another one waits", func() bool {
		status := h.json(t, "/status.json")
		return strings.Contains(status, `"prints":true`) && strings.Contains(status, `"position":1`)
	})
	s.browser = newBrowser(t, h.console)
	return s
}

// json is what programs get.
func (h *hearth) json(t *testing.T, path string) string {
	t.Helper()
	resp, err := http.Get(h.console + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %s, %v", path, resp.Status, text, err)
	}
	return string(text)
}

// shownPage is a page, with the words that must be on it.
type shownPage struct {
	name, path string
	// shot: there is a picture of it in the documents.
	shot  bool
	words []string
}

func (s *shownConsole) pages() []shownPage {
	return []shownPage{
		{"overview", "/", true, []string{"Overview", "//long:first", "//long:third", "waits for", "idle", "busy", "95 %"}},
		{"actions", "/actions", true, []string{"CppCompile //cc:part0", "cached", "exit 3", "//gen:fails"}},
		{"action", "/actions/" + s.good, true, []string{"CppLink //cc:greet", "out/greet", "out/doc/", "linked", "bold", "hearth actions rerun", "hearth actions shell", "--rootfs", "bazel build //cc:greet", "<b>odd", "MARKUP", "recycle-runner", "cache_lookup", "execution", "the first that is remembered"}},
		{"failed", "/actions/" + s.failed, false, []string{"exit 3", "no <such> file", "the first that is remembered", "It ran in container image host"}},
		{"running", "/actions/" + s.going, true, []string{"//long:first", "In flight", "stdout", "execution"}},
		{"waiting", "/actions/" + s.waiting, false, []string{"//long:third", "number 1 in the queue", "waits for"}},
		{"invocations", "/invocations", false, []string{invocationID}},
		{"invocation", "/invocations/" + invocationID, true, []string{"Time line", "first action of this key", "//cc:part5", "Cache misses", "//gen:fails"}},
		{"runners", "/runners", true, []string{"busy", "recycle-runner=true", "Ended", "recycle-runner is not true"}},
		{"runner", "/runners/" + s.runner, true, []string{"Drift", "first action of this key", "//cc:part0", "Drain"}},
		{"audit", "/audit", true, []string{"unsteady", "//gen:stamp", "in a new runner"}},
		{"store", "/store", true, []string{"Evicted", "--max-bytes", "hits", "lookups"}},
	}
}

// TestConsole looks at every page as people do: with and without scripts, by day and by
// night, with the keyboard alone.
func TestConsole(t *testing.T) {
	s := newShownConsole(t)
	t.Run("screenshots", s.makesScreenshots)
	for _, p := range s.pages() {
		t.Run(p.name, func(t *testing.T) {
			s.look(p)
			s.browse(p)
		})
	}
	t.Run("directories", s.browsesFiles)
	t.Run("live", s.isLive)
	t.Run("output", s.followsOutput)
	t.Run("orders", s.takesOrders)
	t.Run("again", s.runsAgain)
}

// look looks at a page, with scripts and without, light and dark.
func (s *shownConsole) look(p shownPage) {
	for _, scripts := range []bool{false, true} {
		s.scripts(scripts)
		for _, dark := range []bool{false, true} {
			s.dark(dark)
			s.open(p.path)
			where := fmt.Sprintf("%s (scripts: %v, dark: %v)", p.path, scripts, dark)
			text := s.text("main")
			for _, words := range p.words {
				if !strings.Contains(text, words) {
					s.t.Errorf("%s lacks %q: %s", where, words, text)
				}
			}
			var wrong []string
			s.evaluate(lookScript, &wrong)
			for _, what := range wrong {
				s.t.Errorf("%s: %s", where, what)
			}
			s.quiet(where)
		}
	}
	s.dark(false)
}

// browse walks through a page with the Tab key, which must come by everything that can
// be followed or filled in.
func (s *shownConsole) browse(p shownPage) {
	s.scripts(false) // so that nothing changes meanwhile
	s.open(p.path)
	var count int
	s.evaluate(`(() => {
		const all = [...document.querySelectorAll("a[href], button, input, pre")].filter((e) => e.tabIndex >= 0);
		all.forEach((e) => { e.dataset.seen = "no"; });
		return all.length;
	})()`, &count)
	var seen []string
	for range min(count, 80) {
		s.press(kb.Tab)
		var one string
		s.evaluate(`(() => { const e = document.activeElement; const was = e.dataset.seen; e.dataset.seen = "yes"; const box = e.getBoundingClientRect();
			return was === "no" && getComputedStyle(e).outlineStyle !== "none" && box.width > 0 && box.bottom > 0 && box.top < window.innerHeight ? "" : e.outerHTML.slice(0, 200); })()`, &one)
		if one != "" {
			seen = append(seen, one)
		}
	}
	if count < 5 || len(seen) > 0 {
		s.t.Errorf("%s: of %d that the keyboard should reach: %q", p.path, count, seen)
	}
	s.scripts(true)
}

// browsesFiles goes down into inputs and outputs, and keeps a file.
func (s *shownConsole) browsesFiles(t *testing.T) {
	s.open("/actions/" + s.good)
	follow := func(words string) {
		t.Helper()
		var href string
		s.evaluate(fmt.Sprintf(`[...document.querySelectorAll("main a")].find((a) => a.textContent === %q)?.getAttribute("href") ?? ""`, words), &href)
		if href == "" {
			t.Fatalf("there is no link %q: %s", words, s.text("main"))
		}
		s.open(href)
	}
	follow("src/")
	if text := s.text("main"); !strings.Contains(text, "main.c") || !strings.Contains(text, "root / src") || !strings.Contains(text, "executable") {
		t.Errorf("the directory: %s", text)
	}
	var wrong []string
	if s.evaluate(lookScript, &wrong); len(wrong) > 0 {
		t.Errorf("the directory: %q", wrong)
	}
	follow("main.c")
	if text := s.text("body"); text != "int main() { return 0; }\n" {
		t.Errorf("the file: %q", text)
	}
	s.open("/actions/" + s.good)
	follow("out/doc/")
	follow("a.txt")
	if text := s.text("body"); text != "doc\n" {
		t.Errorf("the file of an output directory: %q", text)
	}
	s.quiet("directories")
}

// isLive: a page that is open shows what happens, and keeps the focus.
func (s *shownConsole) isLive(t *testing.T) {
	s.scripts(true)
	s.open("/actions")
	waitFor(t, "the page is live", func() bool { return s.text("#live") == "live" })
	s.evaluate(`document.querySelector("main a.mono").focus()`, nil)
	s.evaluate(`window.untouched = true`, nil)
	var href string
	s.evaluate(`document.activeElement.getAttribute("href")`, &href)
	s.builder.build(task{"Late", "//late:comer", "true", []string{"container-image=none.invalid/x"}, nil})
	waitFor(t, "the page shows the new action", func() bool { return strings.Contains(s.text("main"), "//late:comer") })
	var same bool
	s.evaluate(fmt.Sprintf(`window.untouched && document.activeElement.getAttribute("href") === %q`, href), &same)
	if !same {
		t.Error("the page was loaded again, or the focus was lost")
	}
	s.quiet("live")
}

// followsOutput: what a running action prints appears as it does, also for those who
// have no scripts.
func (s *shownConsole) followsOutput(t *testing.T) {
	s.open("/actions/" + s.going)
	printed := func() string { return s.text("pre[aria-label='stdout so far']") }
	waitFor(t, "the page has what was printed", func() bool { return strings.HasPrefix(printed(), "tick 1\ntick 2\n") })
	before := printed()
	waitFor(t, "more is printed", func() bool { return len(printed()) > len(before)+20 })
	if warned := s.text("pre[aria-label='stderr so far']"); warned != "warned 1\nwarned 2\nwarned 3\n" {
		t.Errorf("stderr: %q", warned)
	}
	s.quiet("output")
	var status struct {
		Running []struct{ Operation, Digest string }
	}
	if err := json.Unmarshal([]byte(s.hearth.json(t, "/status.json")), &status); err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(status.Running, func(r struct{ Operation, Digest string }) bool { return r.Digest == s.going })
	if i < 0 {
		t.Fatalf("%+v", status)
	}
	ctx, cancel := context.WithTimeout(t.Context(), browserPatience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.console+"/"+status.Running[i].Operation+"/stdout", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text := make([]byte, len(before)+20) // more than there was: it comes while the action runs
	if _, err := io.ReadFull(resp.Body, text); err != nil || !strings.HasPrefix(string(text), before) {
		t.Errorf("%q, %v", text, err)
	}
}

// takesOrders: an operator drains a runner by a button, without scripts, and reads why it
// ended.
func (s *shownConsole) takesOrders(t *testing.T) {
	s.scripts(false)
	defer s.scripts(true)
	s.open("/runners/" + s.runner)
	s.evaluate(`document.getElementById("remove").focus()`, nil)
	s.press(kb.Enter)
	waitFor(t, "the list of runners is shown", func() bool { return s.text("h1") == "Runners" })
	s.open("/runners/" + s.runner)
	if text := s.text("main"); !strings.Contains(text, "it was removed by hand") || strings.Contains(text, "Drain") && strings.Contains(text, "Remove now") {
		t.Errorf("%s", text)
	}
	s.quiet("orders")
}

// makesScreenshots makes the pictures of docs/console.md, in the directory that the
// variable SCREENSHOTS names, or in one that is removed.
func (s *shownConsole) makesScreenshots(t *testing.T) {
	dir := os.Getenv("SCREENSHOTS")
	if dir == "" {
		dir = t.TempDir()
	}
	for _, p := range s.pages() {
		if !p.shot {
			continue
		}
		s.open(p.path)
		waitFor(t, "the page is live", func() bool { return s.text("#live") == "live" })
		if p.name == "running" {
			waitFor(t, "something is printed", func() bool { return strings.Contains(s.text("pre"), "tick 9") })
		}
		s.screenshot(filepath.Join(dir, p.name+".png"), 2000)
	}
	s.dark(true)
	s.open("/")
	s.screenshot(filepath.Join(dir, "dark.png"), 1000)
	s.dark(false)
	s.quiet("screenshots")
}

// runsAgain types what the page of an action says how to run it again.
func (s *shownConsole) runsAgain(t *testing.T) {
	s.builder.end() // which leaves room
	s.open("/actions/" + s.good)
	var recipes []string
	s.evaluate(`[...document.querySelectorAll("#reproduce pre")].map((e) => e.textContent)`, &recipes)
	if len(recipes) != 4 {
		t.Fatalf("%q", recipes)
	}
	again := strings.Replace(recipes[0], "hearth ", "../bin/hearth ", 1)
	runProgram(t, "", "sh", "-c", again).want(t, 0, "The same as in the action cache")
	dir := shortTempDir(t)
	if e := runProgram(t, dir, "sh", "-ec", recipes[3]).want(t, 0); e.stdout != "linked\n" {
		t.Errorf("by podman alone: %+v", e)
	}
	if made, err := os.ReadFile(filepath.Join(dir, "inputs/out/greet")); err != nil || string(made) != "apple\npear\n" {
		t.Errorf("%q %v", made, err)
	}
}
