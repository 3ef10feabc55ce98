package console_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/reapi/console"
	"github.com/hearth-build/hearth/reapi/execution"
)

// page asks for a page as somebody, who uses a browser.
func (r *rig) page(who, path string) (int, string) {
	r.Helper()
	req, err := http.NewRequest(http.MethodGet, r.url+path, http.NoBody)
	if err != nil {
		r.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+who)
	req.Header.Set("Accept", "text/html")
	return do(r, req)
}

// want checks that a page has some words, and nothing that a client sent as markup.
func (r *rig) want(who, path string, words ...string) string {
	r.Helper()
	code, text := r.page(who, path)
	if code != http.StatusOK {
		r.Errorf("%s answers %d: %s", path, code, text)
	}
	for _, w := range words {
		if !strings.Contains(text, w) {
			r.Errorf("%s lacks %q: %s", path, w, text)
		}
	}
	for _, bad := range []string{"<script>", "<img", "hush"} {
		if strings.Contains(text, bad) {
			r.Errorf("%s has %q: %s", path, bad, text)
		}
	}
	return text
}

// REAPI I14: everything that is known of an action, escaped, and without secrets.
func TestActionPage(t *testing.T) {
	r := newRig(t)
	d := r.observe("", "one", nil)
	path := "/actions/" + d.Hash()
	r.want("reader", path, "Genrule //:one", "exit 3", "execution", "&#39;x&#39;", "printed ", "The end of 39.1 KiB", "the end</pre>",
		"out/dir/", "from the server&#39;s memory", "do one", "recycle-runner", "x-odd", "a&lt;b&gt;", "sub/", "hearth actions rerun sha256:"+d.Hash(),
		"--endpoint=grpc://here", "--console=http://127.0.0.1", "--instance=team", "bazel build", "--remote_instance_name=team",
		"podman run", "./inputs:/hearth/work/root", "mkdir -p inputs inputs/out", "format=tar", "chown -R 65534:65534 inputs", "platform sets are left out",
		"first action of this key", "the first that is remembered", "cold")
	r.wantDetails(path)
	// In the action cache there is the result of a run that ended well.
	good := r.observe("", "two", func(f *execution.Finished) { f.Result, f.ExitCode = nil, 0 })
	if text := r.want("reader", "/actions/"+good.Hash(), "No result of it is kept"); strings.Contains(text, "printed ") {
		t.Errorf("%s", text)
	}
	result := r.result("")
	result.ExitCode = 0
	if err := r.instances[[2]string{"", "team"}].Results.Put(t.Context(), good, result); err != nil {
		t.Fatal(err)
	}
	r.want("reader", "/actions/"+good.Hash(), "from the action cache", "printed ")
}

// wantDetails checks that programs get what is on the page.
func (r *rig) wantDetails(path string) {
	r.Helper()
	_, text := askAs(r, r.url+path, "Bearer reader")
	var runs []console.Action
	if err := json.Unmarshal([]byte(text), &runs); err != nil || len(runs) != 1 || runs[0].Details == nil {
		r.Fatalf("%s %v", text, err)
	}
	d := runs[0].Details
	if d.Problem != "" || len(d.Arguments) != 3 || len(d.Environment) != 1 || d.Environment[0].Value != hostile || len(d.Inputs) != 3 || len(d.Outputs) != 3 ||
		len(d.Reproduce) != 4 || len(d.Platform) < 4 || strings.Contains(text, "hush") {
		r.Errorf("%s", text)
	}
}

// A worker does not know where the clients of its cluster send their actions.
func TestPagesOfAWorker(t *testing.T) {
	r := newRig(t)
	r.status.Worker = true
	r.want("operator", "/", "Working for grpc://here", "The scheduler sends some")
	d := r.observe("", "one", nil)
	r.want("operator", "/actions/"+d.Hash(), "--endpoint=grpc://FRONTEND", "--remote_executor=grpc://FRONTEND")
}

// What was evicted is named, and the rest is shown.
func TestActionPageOfWhatIsGone(t *testing.T) {
	r := newRig(t)
	gone := cas.SHA256.Sum([]byte("evicted"))
	r.observe("", "one", func(f *execution.Finished) { f.Action = gone })
	r.want("reader", "/actions/"+gone.Hash(), "has no action", "was evicted", "Genrule //:one", "exit 3", "out/dir/")
	half := r.message("", &repb.Action{CommandDigest: gone.Proto(), InputRootDigest: gone.Proto()})
	r.observe("", "one", func(f *execution.Finished) { f.Action = half })
	r.want("reader", "/actions/"+half.Hash(), "has no command")
	elsewhere := r.observe("", "three", func(f *execution.Finished) { f.Instance = "closed" })
	r.want("operator", "/actions/"+elsewhere.Hash(), "Not everything can be shown", "exit 3")
}

// Each run is compared with the one before it.
func TestRunsOfAnActionAreCompared(t *testing.T) {
	r := newRig(t)
	var d cas.Digest
	for _, edit := range []func(*execution.Finished){
		nil,
		func(f *execution.Finished) { f.ExitCode, f.Outputs = 0, "2" },
		func(f *execution.Finished) {
			f.ExitCode, f.Outputs, f.Printed, f.Runner.Warm, f.Runner.Runs = 0, "2", "3", true, 2
			f.Phases[1].Duration = 5 * time.Second
		},
		func(f *execution.Finished) {
			f.ExitCode, f.Outputs, f.Printed, f.Runner.Warm, f.Runner.RunnerID = 0, "2", "3", true, "r-2"
			f.Phases[1].Duration = 5 * time.Second
		},
		func(f *execution.Finished) {
			f.Cached, f.ExitCode, f.Outputs, f.Printed, f.Runner.RunnerID = true, 0, "2", "3", ""
		},
	} {
		d = r.observe("", "same", edit)
	}
	text := r.want("operator", "/actions/"+d.Hash(), "exit 0, before exit 3", "other outputs", "printed something else", "in a used runner, before in a new one",
		"its command took 5.00 s, before 800 ms", "in another runner", "nothing but times", "the first that is remembered")
	if n := strings.Count(text, "other outputs"); n != 1 {
		t.Errorf("other outputs %d times: %s", n, text)
	}
}

// A run that goes on is described where those are that ended, and what it prints can be
// read as text and as events.
func TestActionThatGoesOn(t *testing.T) {
	r := newRig(t)
	op := r.start("", "going")
	r.start("", "second")
	waiting := r.start("", "third")
	path := "/actions/" + op.Action().Hash()
	r.want("reader", path, "In flight", "//:going", "execution", "None has ended yet", `data-log="/`+op.Name()+`/stdout"`, "bazel build //:going", "first action of this key")
	r.want("reader", "/actions/"+waiting.Action().Hash(), "number 1 in the queue", "waits for 1 CPU (0 free)")
	r.want("operator", "/", "//:going", "//:third", "waits for 1 CPU (0 free)", "busy")
	r.want("operator", "/runners", "//:going")
	r.want("reader", "/invocations", "build of ")
	r.want("reader", "/invocations/build%20of%20", "//:third", "None of its actions has ended yet")
	if code, text := r.page("tenant", path); code != http.StatusNotFound || strings.Contains(text, "going") {
		t.Errorf("for another tenant: %d, %s", code, text)
	}
	var status console.Status
	if _, text := askAs(t, r.url+"/status.json", "Bearer operator"); json.Unmarshal([]byte(text), &status) != nil || len(status.Running) != 2 || len(status.Waiting) != 1 ||
		status.Waiting[0].Position != 1 || !status.Running[0].Prints || status.Running[0].Runner == nil {
		t.Errorf("%s", text)
	}
	for who, want := range map[string]int{"reader": http.StatusOK, "operator": http.StatusOK, "stranger": http.StatusNotFound, "tenant": http.StatusNotFound} {
		req, err := http.NewRequest(http.MethodGet, r.url+"/"+op.Name()+"/stderr", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+who)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		text := make([]byte, len("moaned\n"))
		if resp.StatusCode == http.StatusOK {
			_, err = resp.Body.Read(text)
		}
		resp.Body.Close()
		if resp.StatusCode != want || err != nil || want == http.StatusOK && (string(text) != "moaned\n" || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain")) {
			t.Errorf("%s: %s, %q, %v", who, resp.Status, text, err)
		}
	}
	for _, wrong := range []string{"/" + op.Name() + "/stdin", "/operations/none/stdout", "/" + waiting.Name() + "/stdout"} {
		if code, _ := askAs(t, r.url+wrong, "Bearer operator"); code != http.StatusNotFound {
			t.Errorf("%s answers %d", wrong, code)
		}
	}
	events := r.stream("reader", "/"+op.Name()+"/stdout", "6")
	again := r.stream("reader", "/"+op.Name()+"/stdout?offset=6", "")
	if e := again.next(); string(e.bytes()) != hostile+"\n" {
		t.Errorf("from an offset on: %+v", e)
	}
	first := events.next()
	if first.name != "print" || string(first.bytes()) != hostile+"\n" {
		t.Errorf("after an offset: %+v %s", first, first.bytes())
	}
	r.stop()
	if last := events.next(); last.name != "print" || string(last.bytes()) != "ended\n" || last.id == first.id {
		t.Errorf("%+v", last)
	}
	if end := events.next(); end.name != "end" {
		t.Errorf("%+v", end)
	}
	r.until("it has ended", func() bool { return op.State().Done() })
	r.want("reader", path, "exit 0", "begun ", "ended\n</pre>")
	if code, _ := askAs(t, r.url+"/"+op.Name()+"/stdout", "Bearer operator"); code != http.StatusNotFound {
		t.Errorf("when it has ended: %d", code)
	}
}
