package reapi_test

import (
	"context"
	"strings"
	"testing"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/genproto/googleapis/bytestream"
	"google.golang.org/protobuf/proto"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/runners"
	"github.com/hearth-build/hearth/runners/runnertest"
)

// REAPI F65, F29, 0.7: the log of an action that failed is in the store under a
// digest of the action's own function when the client hears of it, also of a client
// that comes back later.
func TestServerLogsCanBeRead(t *testing.T) {
	f := newActionFixture(t, func(context.Context, runnertest.Process) (runners.Result, error) {
		return runners.Result{ExitCode: 3}, nil
	})
	put := func(fn cas.Function, m proto.Message) *repb.Digest {
		t.Helper()
		data, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		d, err := cas.PutBytes(t.Context(), f.instances[""].Store, fn, data)
		if err != nil {
			t.Fatal(err)
		}
		return d.Proto()
	}
	for _, fn := range []cas.Function{cas.SHA256, cas.BLAKE3} {
		ops, err := f.execute(&repb.ExecuteRequest{DigestFunction: fn.Proto(), ActionDigest: put(fn, &repb.Action{
			CommandDigest: put(fn, &repb.Command{Arguments: []string{"do"}}), InputRootDigest: put(fn, &repb.Directory{}),
		})})
		if err != nil {
			t.Fatal(err)
		}
		wait, err := repb.NewExecutionClient(f.conn).WaitExecution(t.Context(), &repb.WaitExecutionRequest{Name: ops[0].GetName()})
		if err != nil {
			t.Fatal(err)
		}
		again, err := collect(wait)
		if err != nil {
			t.Fatal(err)
		}
		logs := response(t, ops).GetServerLogs()
		log := logs["hearth.log"]
		if len(logs) != 1 || !log.GetHumanReadable() || !proto.Equal(response(t, again).GetServerLogs()["hearth.log"], log) {
			t.Fatalf("logs %v", logs)
		}
		d, err := cas.FromProto(fn.Proto(), log.GetDigest())
		if err != nil {
			t.Fatal(err)
		}
		text, err := f.read(&bytestream.ReadRequest{ResourceName: "blobs/" + d.Name()})
		if err != nil || !strings.Contains(string(text), "exit code  3\n") {
			t.Errorf("%v: %q, %v", fn, text, err)
		}
	}
}
