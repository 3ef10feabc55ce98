package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/reapi/console"
)

func TestSplitDigest(t *testing.T) {
	for text, want := range map[string]string{
		"abc": "|abc|", "abc/12": "|abc|12", "blake3/abc/12": "blake3|abc|12", "sha256:abc/12": "sha256|abc|12", "sha1:abc": "sha1|abc|",
		"": "||", "a/b/c/d": "|a|b/c/d", "/": "||",
	} {
		function, hash, size := splitDigest(text)
		if got := function + "|" + hash + "|" + size; got != want {
			t.Errorf("%q is %s, want %s", text, got, want)
		}
	}
}

func TestActionDigest(t *testing.T) {
	for _, f := range cas.Functions() {
		d := f.Sum([]byte("x"))
		if got, err := actionDigest(strings.ToUpper(f.String()), d.Hash(), "1"); err != nil || got != d {
			t.Errorf("%v is %v, %v", d, got, err)
		}
	}
	d := cas.SHA1.Sum([]byte("x"))
	if got, err := actionDigest("", d.Hash(), "1"); err != nil || got != d {
		t.Errorf("by its length %v is %v, %v", d, got, err)
	}
	for _, bad := range [][3]string{{"", d.Hash(), ""}, {"", d.Hash(), "-1"}, {"", "xyz", "1"}, {"md6", d.Hash(), "1"}, {"sha256", d.Hash(), "1"}, {"vso", d.Hash(), "1"}} {
		if got, err := actionDigest(bad[0], bad[1], bad[2]); err == nil {
			t.Errorf("%q is %v", bad, got)
		}
	}
}

// The console's answers, and its silence.
func TestGetConsole(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/actions/good":
			fmt.Fprint(w, `[{"digest": "d", "exit_code": 3}]`)
		case "/actions/bad":
			http.Error(w, "not like this", http.StatusBadRequest)
		case "/actions/odd":
			fmt.Fprint(w, "<html>")
		default:
			http.NotFound(w, r)
		}
	}))
	defer server.Close()
	get := func(name string) ([]*console.Action, error) {
		var list []*console.Action
		// With and without http://, as in --console of serve.
		return list, (&identityFlags{}).getConsole(t.Context(), consoleURL(strings.TrimPrefix(server.URL, "http://"), "actions/", name), &list)
	}
	var list []*console.Action
	if err := (&identityFlags{}).getConsole(t.Context(), consoleURL(server.URL+"/", "actions/good"), &list); err != nil || len(list) != 1 || list[0].ExitCode != 3 {
		t.Errorf("%+v, %v", list, err)
	}
	if _, err := get("none"); !errors.Is(err, errNotRemembered) {
		t.Errorf("%v", err)
	}
	for name, words := range map[string]string{"bad": "not like this", "odd": "invalid character"} {
		if _, err := get(name); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: %v", name, err)
		}
	}
	server.Close()
	if _, err := get("good"); err == nil || !strings.Contains(err.Error(), "--console") {
		t.Errorf("%v", err)
	}
}

func TestDifferences(t *testing.T) {
	before := facts{"exit code": "0", "output a": "x", "output gone": "y", "stdout": "same"}
	after := facts{"exit code": "1", "output a": "z", "output new": "w", "stdout": "same"}
	got := fmt.Sprint(differences(before, after))
	if want := "[{exit code 0 1} {output a x z} {output gone y } {output new  w}]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if d := differences(after, after); len(d) != 0 {
		t.Errorf("what is equal differs: %v", d)
	}
}

func TestVariants(t *testing.T) {
	got := variants([]facts{{"a": "1", "b": "x"}, {"a": "1", "b": "y"}, {"a": "1"}})
	if want := "map[b:[absent in 1 runs x in 1 runs y in 1 runs]]"; fmt.Sprint(got) != want {
		t.Errorf("%v, want %s", got, want)
	}
}

// What a Tree holds is told by its paths, and a Tree that would be endless is not.
func TestTreeFacts(t *testing.T) {
	file := &repb.FileNode{Name: "f", Digest: &repb.Digest{Hash: "aa", SizeBytes: 1}, IsExecutable: true}
	leaf := &repb.Directory{Files: []*repb.FileNode{file}, Symlinks: []*repb.SymlinkNode{{Name: "l", Target: "../x"}}}
	walk := treeWalk{facts: facts{}, children: map[string]*repb.Directory{"bb/2": leaf}}
	walk.add("out", &repb.Directory{Directories: []*repb.DirectoryNode{
		{Name: "sub", Digest: &repb.Digest{Hash: "bb", SizeBytes: 2}}, {Name: "lost", Digest: &repb.Digest{Hash: "cc", SizeBytes: 3}},
	}})
	if got := fmt.Sprint(walk.facts); got != "map[output out/sub/f:aa/1 executable output out/sub/l:-> ../x]" {
		t.Error(got)
	}
	bomb := treeWalk{facts: facts{}, children: map[string]*repb.Directory{}}
	previous := leaf
	for i := range 40 {
		digest := &repb.Digest{Hash: fmt.Sprint(i)}
		bomb.children[digestText(digest)] = previous
		previous = &repb.Directory{Directories: []*repb.DirectoryNode{{Name: "a", Digest: digest}, {Name: "b", Digest: digest}}}
	}
	bomb.add("out", previous)
	if n := len(bomb.facts); n < maxFacts || n > maxFacts+10 {
		t.Errorf("%d facts", n)
	}
}

func TestPhasesOf(t *testing.T) {
	at := func(ms int64) *timestamppb.Timestamp { return timestamppb.New(time.UnixMilli(ms)) }
	md := &repb.ExecutedActionMetadata{
		QueuedTimestamp: at(0), WorkerStartTimestamp: at(5), ExecutionStartTimestamp: at(10), ExecutionCompletedTimestamp: at(30), WorkerCompletedTimestamp: at(31),
	}
	got := ""
	for _, p := range phasesOf(md) {
		got += fmt.Sprint(p.name, " ", p.took, "; ")
	}
	if got != "queued 5ms; execution 20ms; in all 31ms; " || phasesOf(nil) != nil {
		t.Error(got)
	}
}

// REAPI I14: what a client sent does not play with the terminal.
func TestOneLine(t *testing.T) {
	if got := oneLine("a\x1b[31m\nb" + strings.Repeat("x", 200)); strings.ContainsAny(got, "\x1b\n") || !strings.HasPrefix(got, `a\x1b[31m\nb`) || len(got) > 120 {
		t.Errorf("%q", got)
	}
}
