package console_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/reapi/access"
	"github.com/hearth-build/hearth/reapi/console"
	"github.com/hearth-build/hearth/reapi/execution"
	"github.com/hearth-build/hearth/runners"
)

// ended is a history that is filled already.
type ended []*execution.Finished

func (e ended) Find(filter execution.Filter) []*execution.Finished {
	h, err := execution.NewHistory(len(e))
	if err != nil {
		return nil
	}
	for _, f := range e {
		h.Observe(context.Background(), f)
	}
	return h.Find(filter)
}

func serveActions(t *testing.T, all ...*execution.Finished) *httptest.Server {
	t.Helper()
	return serveOptions(t, console.Options{Source: fixed{}, Actions: ended(all), Runners: &pool{}, Access: access.NewOpen()})
}

func getJSON(t *testing.T, url string) (int, []console.Action) {
	t.Helper()
	code, text := get(t, url)
	if code != http.StatusOK {
		return code, nil
	}
	var list []console.Action
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		t.Fatalf("%s answers %s: %v", url, text, err)
	}
	return code, list
}

func someActions(t *testing.T) []*execution.Finished {
	t.Helper()
	result, err := proto.Marshal(&repb.ActionResult{ExitCode: 7, StderrRaw: []byte("hm")})
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	return []*execution.Finished{
		{
			Action: cas.BLAKE3.Sum([]byte("first")), Instance: "team", Status: "OK", ExitCode: 7, Result: result, Invocation: "build 1",
			Mnemonic: "Genrule", Target: "<script>alert(1)</script>", Args: []string{"sh"}, Queued: at, Ended: at.Add(time.Second),
			Phases: []execution.Phase{{Name: "inputs", Start: at, Duration: time.Millisecond}},
			Runner: runners.LeaseInfo{RunnerID: "hearth-1", Runs: 1, ColdReason: "first action of this key"},
		},
		{Action: cas.SHA256.Sum([]byte("second")), Status: "OK", Cached: true, Invocation: "build 2", Args: []string{"cc", "-c"}},
		{Action: cas.SHA256.Sum([]byte("third")), Status: "UNAVAILABLE", Error: "the runner is lost", Invocation: "build 2"},
	}
}

func TestActionsList(t *testing.T) {
	all := someActions(t)
	server := serveActions(t, all...)
	for query, want := range map[string]int{
		"": 3, "?limit=2": 2, "?limit=0": 3, "?invocation=build+2": 2, "?failed=true": 2, "?failed=false": 3, "?invocation=build+2&failed=1": 1,
	} {
		if code, list := getJSON(t, server.URL+"/actions"+query); code != http.StatusOK || len(list) != want {
			t.Errorf("%q answers %d, %d actions, want %d", query, code, len(list), want)
		}
	}
	_, list := getJSON(t, server.URL+"/actions")
	first := list[2]
	if first.Digest != all[0].Action.Hash()+"/5" || first.DigestFunction != "blake3" || first.Instance != "team" || first.ExitCode != 7 ||
		!first.Failed() || first.Took() != time.Second || first.Runner.ID != "hearth-1" || first.Runner.Warm || first.Phases[0].Duration != time.Millisecond {
		t.Errorf("%+v", first)
	}
	if first.Result != nil || list[1].Runner != nil || list[1].What() != "cc -c" || list[0].Error != "the runner is lost" {
		t.Errorf("%+v", list)
	}
	for _, query := range []string{"?limit=many", "?limit=-1", "?failed=perhaps"} {
		if code, text := get(t, server.URL+"/actions"+query); code != http.StatusBadRequest || !strings.Contains(text, query[1:6]) {
			t.Errorf("%s answers %d: %s", query, code, text)
		}
	}
	if code, text := get(t, serveActions(t).URL+"/actions"); code != http.StatusOK || text != "[]\n" {
		t.Errorf("without any action the list is %s", text)
	}
}

// REAPI I14: what clients sent is escaped.
func TestActionsPage(t *testing.T) {
	code, page := see(t, serveActions(t, someActions(t)...).URL+"/actions")
	if code != http.StatusOK || strings.Contains(page, "<script>") {
		t.Errorf("%d: %s", code, page)
	}
	for _, words := range []string{"&lt;script&gt;", "exit 7", "cached", "UNAVAILABLE", "hearth-1, ", "first action of this key", "the runner is lost"} {
		if !strings.Contains(page, words) {
			t.Errorf("%q is not in the page %s", words, page)
		}
	}
}

func TestOneAction(t *testing.T) {
	all := someActions(t)
	twin := *all[0]
	twin.ExitCode = 0
	all = append(all, &twin)
	server := serveActions(t, all...)
	hash := all[0].Action.Hash()
	for _, digest := range []string{hash, hash + "/5", hash[:8]} {
		code, runs := getJSON(t, server.URL+"/actions/"+digest)
		if code != http.StatusOK || len(runs) != 2 || runs[0].ExitCode != 0 || runs[1].ExitCode != 7 {
			t.Fatalf("%s answers %d, %+v", digest, code, runs)
		}
		result := &repb.ActionResult{}
		if err := protojson.Unmarshal(runs[1].Result, result); err != nil || string(result.GetStderrRaw()) != "hm" {
			t.Errorf("the result is %s (%v)", runs[1].Result, err)
		}
	}
	for digest, want := range map[string]int{"": http.StatusNotFound, "0000": http.StatusNotFound, hash + "/6": http.StatusNotFound} {
		if code, text := get(t, server.URL+"/actions/"+digest); code != want || !strings.Contains(text, "digest") {
			t.Errorf("%q answers %d: %s", digest, code, text)
		}
	}
	other := &execution.Finished{Action: digestLike(t, hash)}
	if code, text := get(t, serveActions(t, all[0], other).URL+"/actions/"+hash[:1]); code != http.StatusConflict || !strings.Contains(text, hash) {
		t.Errorf("an ambiguous digest answers %d: %s", code, text)
	}
}

// digestLike is another digest that begins like hash.
func digestLike(t *testing.T, hash string) cas.Digest {
	t.Helper()
	d, err := cas.ParseDigest(cas.SHA256, hash[:1]+strings.Repeat("0", 63), 1)
	if err != nil {
		t.Fatal(err)
	}
	return d
}
