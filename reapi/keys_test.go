package reapi_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/runners"
	"github.com/hearth-build/hearth/runners/runnertest"
)

// counter is a program whose runs print their number.
type counter struct{ runs atomic.Int32 }

func (c *counter) run(_ context.Context, p runnertest.Process) (runners.Result, error) {
	_, err := fmt.Fprint(p.Stdout, c.runs.Add(1))
	return runners.Result{}, err
}

// wantApart checks that actions of one command, made by the changes, are run once
// each, and that each has an entry of its own in the action cache.
func wantApart(t *testing.T, changes map[string]func(*repb.Action)) {
	t.Helper()
	c := &counter{}
	f := newActionFixture(t, c.run)
	command, root := f.putMessage(&repb.Command{Arguments: []string{"do"}}), f.putMessage(&repb.Directory{})
	printed := map[string]string{} // by the hash of the action
	for _, round := range []string{"first", "second"} {
		for name, change := range changes {
			action := &repb.Action{CommandDigest: command, InputRootDigest: root, Platform: platform("recycle-runner", "true")}
			change(action)
			d := f.putMessage(action)
			if _, known := printed[d.GetHash()]; known != (round == "second") {
				t.Fatalf("%s: there are two such actions", name)
			}
			ops, err := f.execute(&repb.ExecuteRequest{ActionDigest: d, InlineStdout: true})
			if err != nil {
				t.Fatal(err)
			}
			resp := response(t, ops)
			got := string(resp.GetResult().GetStdoutRaw())
			if round == "first" {
				printed[d.GetHash()] = got
			}
			if resp.GetCachedResult() != (round == "second") || got == "" || got != printed[d.GetHash()] {
				t.Errorf("%s, the %s time: cached is %v, printed %q", name, round, resp.GetCachedResult(), got)
			}
			entry, err := repb.NewActionCacheClient(f.conn).GetActionResult(t.Context(), &repb.GetActionResultRequest{ActionDigest: d, InlineStdout: true})
			if err != nil || string(entry.GetStdoutRaw()) != got {
				t.Errorf("%s: an entry that printed %q, %v", name, entry.GetStdoutRaw(), err)
			}
		}
	}
	if n := int(c.runs.Load()); n != len(changes) {
		t.Errorf("%d runs of %d actions", n, len(changes))
	}
}

// platform has properties of names and values in turn.
func platform(words ...string) *repb.Platform {
	p := &repb.Platform{}
	for pair := range slices.Chunk(words, 2) {
		p.Properties = append(p.Properties, &repb.Platform_Property{Name: pair[0], Value: pair[1]})
	}
	return p
}

// REAPI F27: an action with another timeout, platform or salt is another action,
// though it means the same to this server.
func TestActionsAreTakenAsTheyAre(t *testing.T) {
	platformOf := func(words ...string) func(*repb.Action) {
		return func(a *repb.Action) { a.Platform = platform(words...) }
	}
	timeout := func(d time.Duration) func(*repb.Action) {
		return func(a *repb.Action) { a.Timeout = durationpb.New(d) }
	}
	wantApart(t, map[string]func(*repb.Action){
		"as it is":                    func(*repb.Action) {},
		"a timeout":                   timeout(time.Minute),
		"the timeout that is default": timeout(time.Hour),
		"a timeout of zero":           timeout(0),
		"no platform":                 func(a *repb.Action) { a.Platform = nil },
		"an empty platform":           platformOf(),
		"another value":               platformOf("recycle-runner", "false"),
		"a value in capitals":         platformOf("recycle-runner", "TRUE"),
		"a name in capitals":          platformOf("Recycle-Runner", "true"),
		"another name of it":          platformOf("dockerReuse", "true"),
		"the same twice":              platformOf("recycle-runner", "true", "recycle-runner", "true"),
		"a property without meaning":  platformOf("recycle-runner", "true", "x", "1"),
		"in another order":            platformOf("x", "1", "recycle-runner", "true"),
		"what is default anyway":      platformOf("OSFamily", "linux", "recycle-runner", "true"),
		"a salt":                      func(a *repb.Action) { a.Salt = []byte("x") },
	})
}

// REAPI K17, F27: Bazel's salt is a message of its own, CacheSalt. Nobody looks into
// it: each runs, and what differs in bytes alone is kept apart as well.
func TestActionsSaltedByBazel(t *testing.T) {
	const mayBeExecutedRemotely, workspace, scrubSalt, salt = 1, 2, 3, 1
	remotely := protowire.AppendVarint(protowire.AppendTag(nil, mayBeExecutedRemotely, protowire.VarintType), 1)
	field := func(number protowire.Number, value []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, number, protowire.BytesType), value)
	}
	where, scrubbed := field(workspace, []byte("main")), field(scrubSalt, field(salt, []byte("s")))
	salted := func(parts ...[]byte) func(*repb.Action) {
		return func(a *repb.Action) { a.Salt = slices.Concat(parts...) }
	}
	wantApart(t, map[string]func(*repb.Action){
		"all default, which is empty": salted(),
		"may be executed remotely":    salted(remotely),
		"with a workspace":            salted(remotely, where),
		"another workspace":           salted(remotely, field(workspace, []byte("other"))),
		"scrubbed":                    salted(remotely, scrubbed),
		"scrubbed with another salt":  salted(remotely, field(scrubSalt, field(salt, []byte("t")))),
		"scrubbed without a salt":     salted(remotely, field(scrubSalt, nil)),
		"scrubbed, and local":         salted(scrubbed),
		"all of it":                   salted(remotely, where, scrubbed),
		"in another order":            salted(scrubbed, where, remotely),
	})
}

// REAPI K24, E11: what is stored for an action is given back as it is, though its
// Command asks for other outputs, until the action is really run.
func TestResultsNeedNotMatchTheCommand(t *testing.T) {
	c := &counter{}
	f := newActionFixture(t, c.run)
	req := f.putAction(&repb.Command{Arguments: []string{"do"}, OutputPaths: []string{"asked", "also"}, WorkingDirectory: "absent"}, &repb.Directory{})
	scrubbed := &repb.ActionResult{
		OutputFiles:       []*repb.OutputFile{{Path: "not/asked", Digest: f.put([]byte("x")), IsExecutable: true}},
		OutputDirectories: []*repb.OutputDirectory{{Path: "tree", TreeDigest: f.putMessage(&repb.Tree{Root: &repb.Directory{}})}},
		OutputSymlinks:    []*repb.OutputSymlink{{Path: "link", Target: "not/asked"}},
		StdoutDigest:      f.put([]byte("another command")),
		ExecutionMetadata: &repb.ExecutedActionMetadata{Worker: "the client's own host"},
	}
	cache := repb.NewActionCacheClient(f.conn)
	stored, err := cache.UpdateActionResult(t.Context(), &repb.UpdateActionResultRequest{ActionDigest: req.GetActionDigest(), ActionResult: scrubbed})
	if err != nil || !proto.Equal(stored, scrubbed) {
		t.Fatalf("stored %v, %v", stored, err)
	}
	got, err := cache.GetActionResult(t.Context(), &repb.GetActionResultRequest{ActionDigest: req.GetActionDigest()})
	if err != nil || !proto.Equal(got, scrubbed) {
		t.Errorf("got %v, %v", got, err)
	}
	ops, err := f.execute(req)
	if err != nil {
		t.Fatal(err)
	}
	if resp := response(t, ops); !resp.GetCachedResult() || !proto.Equal(resp.GetResult(), scrubbed) || c.runs.Load() != 0 {
		t.Errorf("%d runs, response %v", c.runs.Load(), resp)
	}
}

// pair is a program for two runs of one action that are under way at once.
type pair struct {
	turns atomic.Int32
	meet  chan struct{}
	goOn  [2]chan struct{} // of each turn
}

func newPair() *pair {
	return &pair{meet: make(chan struct{}), goOn: [2]chan struct{}{make(chan struct{}), make(chan struct{})}}
}

// run writes the number of its turn to out, waits until the other did the same,
// and finds and prints its own.
func (p *pair) run(ctx context.Context, proc runnertest.Process) (runners.Result, error) {
	turn := int(p.turns.Add(1) - 1)
	root := filepath.Join(proc.Dir, runners.WorkDirName, "root")
	entries, err := os.ReadDir(root)
	if err != nil || len(entries) != 1 || entries[0].Name() != "in" {
		return runners.Result{}, fmt.Errorf("the input root has %v: %w", entries, err)
	}
	if err := os.WriteFile(filepath.Join(root, "out"), fmt.Append(nil, turn), 0o644); err != nil {
		return runners.Result{}, err
	}
	select {
	case p.meet <- struct{}{}:
	case <-p.meet:
	case <-ctx.Done():
		return runners.Result{}, context.Cause(ctx)
	case <-time.After(time.Minute):
		return runners.Result{}, errors.New("the other does not come")
	}
	select {
	case <-p.goOn[turn]:
	case <-ctx.Done():
		return runners.Result{}, context.Cause(ctx)
	}
	mine, err := os.ReadFile(filepath.Join(root, "out"))
	if err == nil {
		_, err = proc.Stdout.Write(mine)
	}
	return runners.Result{}, err
}

// both executes two requests for the action and returns their ends as they come.
func (f *fixture) both(req *repb.ExecuteRequest, contexts ...context.Context) <-chan []*longrunningpb.Operation {
	ends := make(chan []*longrunningpb.Operation, len(contexts))
	for _, ctx := range contexts {
		go func() { // ends with the test at the latest
			stream, err := repb.NewExecutionClient(f.conn).Execute(ctx, req)
			var ops []*longrunningpb.Operation
			if err == nil {
				ops, err = collect(stream)
			}
			if err != nil {
				f.t.Error(err)
			}
			ends <- ops
		}()
	}
	return ends
}

// wantOwn checks that a run returned what it wrote itself, which is told.
func wantOwn(t *testing.T, ops []*longrunningpb.Operation) string {
	t.Helper()
	if len(ops) == 0 {
		t.Fatal("it did not end well")
	}
	r := response(t, ops).GetResult()
	if len(r.GetOutputFiles()) != 1 || string(r.GetOutputFiles()[0].GetContents()) != string(r.GetStdoutRaw()) || len(r.GetStdoutRaw()) != 1 {
		t.Errorf("result %v", r)
	}
	return string(r.GetStdoutRaw())
}

// REAPI F42, F24, G16: two runs of one action at once have an input root, outputs
// and a log each.
func TestOneActionTwiceAtOnce(t *testing.T) {
	p := newPair()
	close(p.goOn[0])
	close(p.goOn[1])
	f := newActionFixture(t, p.run)
	action := &repb.Action{DoNotCache: true, Platform: platform("recycle-runner", "true")}
	req := f.pairRequest(action)
	ends := f.both(req, t.Context(), t.Context())
	if one, two := wantOwn(t, <-ends), wantOwn(t, <-ends); one == two {
		t.Errorf("both returned %q", one)
	}
	_, err := repb.NewActionCacheClient(f.conn).GetActionResult(t.Context(), &repb.GetActionResultRequest{ActionDigest: req.GetActionDigest()})
	wantCode(t, "its entry in the action cache", err, codes.NotFound)
}

func (f *fixture) pairRequest(action *repb.Action) *repb.ExecuteRequest {
	action.CommandDigest = f.putMessage(&repb.Command{Arguments: []string{"do"}, OutputPaths: []string{"out"}})
	action.InputRootDigest = f.putMessage(&repb.Directory{Files: []*repb.FileNode{{Name: "in", Digest: f.put([]byte("x"))}}})
	return &repb.ExecuteRequest{ActionDigest: f.putMessage(action), InlineStdout: true, InlineOutputFiles: []string{"out"}}
}

// REAPI F42: of two runs of one action at once, which headers keep apart, the one
// that ends last has its result in the action cache.
func TestLastOfTwoRunsIsCached(t *testing.T) {
	p := newPair()
	f := newActionFixture(t, p.run)
	req := f.pairRequest(&repb.Action{})
	keyed := func(key string) context.Context {
		return metadata.AppendToOutgoingContext(t.Context(), "x-buildbuddy-platform.runner-recycling-key", key)
	}
	ends := f.both(req, keyed("a"), keyed("b"))
	for _, turn := range []int{1, 0} {
		close(p.goOn[turn])
		if got := wantOwn(t, <-ends); got != fmt.Sprint(turn) {
			t.Errorf("turn %d returned %q", turn, got)
		}
		entry, err := repb.NewActionCacheClient(f.conn).GetActionResult(t.Context(), &repb.GetActionResultRequest{ActionDigest: req.GetActionDigest()})
		if want := cas.SHA256.Sum(fmt.Append(nil, turn)).Proto(); err != nil || !proto.Equal(entry.GetStdoutDigest(), want) {
			t.Errorf("after turn %d the entry is %v, %v", turn, entry, err)
		}
	}
}
