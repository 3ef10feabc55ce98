package e2e_test

import (
	"encoding/json"
	"io"
	"path/filepath"
	"strings"
	"testing"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/protobuf/types/known/anypb"
)

// container is a runner, as hearth runners lists it.
type container struct {
	ID, State, Key, Image string
	Runs                  int
	Spare                 bool
	DriftBytes            int64  `json:"drift_bytes"`
	ColdReason            string `json:"cold_reason"`
	Actions               []struct{ Args []string }
}

// runners lists the containers.
func (h *hearth) runners(t *testing.T) (list []container) {
	t.Helper()
	out := h.order(t, "list", "--json").want(t, 0).stdout
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return list
}

// order is a command of hearth runners.
func (h *hearth) order(t *testing.T, args ...string) ended {
	t.Helper()
	return runProgram(t, "", append([]string{"../bin/hearth", "runners"}, append(args, "--console="+h.console)...)...)
}

// runner is the only one there is.
func (h *hearth) runner(t *testing.T) container {
	t.Helper()
	list := h.runners(t)
	if len(list) != 1 {
		t.Fatalf("there are runners %+v, want one", list)
	}
	return list[0]
}

// What a user sees of the containers of a server, and how they end them.
func TestRunners(t *testing.T) {
	h := startHearthWith(t, "/", recycling)
	c := newCaller(t, h)
	root := c.tree(nil)
	c.run(root, nil, "echo first")
	c.run(root, nil, "echo second")
	one := h.runner(t)
	if one.State != "idle" || one.Runs != 2 || one.Image != "host" || !strings.Contains(one.Key, "recycle-runner=true") {
		t.Errorf("%+v", one)
	}
	h.order(t, "list").want(t, 0, "runner", "drift", one.ID, "idle")
	h.order(t, "inspect", one.ID).want(t, 0, one.ID, "first action of this key", "between actions", "beside its image", "/bin/sh -c echo second", "/bin/sh -c echo first")
	h.order(t, "inspect", "none").want(t, 1, `there is no runner "none"`, "hearth runners list")
	h.order(t, "drain", one.ID).want(t, 0)
	waitFor(t, "the drained runner is gone", func() bool { return len(h.runners(t)) == 0 })

	stream, err := c.start(t.Context(), root, nil, "sleep 2; echo done")
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, "its runner is busy", func() bool {
		list := h.runners(t)
		return len(list) == 1 && list[0].State == "busy"
	})
	busy := h.runner(t)
	h.order(t, "remove", busy.ID).want(t, 0)
	resp := &repb.ExecuteResponse{}
	for {
		op, err := stream.Recv()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if op.GetDone() {
			if err := op.GetResponse().UnmarshalTo(resp); err != nil {
				t.Fatal(err)
			}
		}
	}
	if s := resp.GetStatus(); s.GetCode() != 0 || c.read(resp.GetResult().GetStdoutDigest()) != "done\n" {
		t.Errorf("the action whose runner was removed: %v", resp)
	}
	if again := h.runner(t); again.ID == busy.ID || !strings.Contains(again.ColdReason, "removed by hand") {
		t.Errorf("%s was removed; it ran in %+v", busy.ID, again)
	}
}

// Runners that have come to their limits are replaced, and the next one says why.
func TestRunnersAreReplaced(t *testing.T) {
	h := startHearthWith(t, "/", recycling, "--max-runner-actions=3", "--max-runner-disk=10MiB")
	c := newCaller(t, h)
	root := c.tree(nil)
	for range 4 {
		c.run(root, nil, "true")
	}
	waitFor(t, "the first runner is gone", func() bool { return len(h.runners(t)) == 1 })
	if second := h.runner(t); second.Runs != 1 || !strings.Contains(second.ColdReason, "it has run 3 actions (--max-runner-actions)") {
		t.Errorf("%+v", second)
	}
	asRoot := []string{"dockerRunAsRoot"}
	c.run(root, asRoot, "head -c 20000000 /dev/zero > /opt/left")
	waitFor(t, "the runner that holds too much is gone", func() bool { return len(h.runners(t)) == 1 })
	c.run(root, asRoot, "test ! -e /opt/left")
	fresh := h.runners(t)
	if last := fresh[len(fresh)-1]; !strings.Contains(last.ColdReason, "of disk, more than 10MiB (--max-runner-disk)") {
		t.Errorf("%+v", last)
	}
}

// An action that wants a runner of its own gets one that is ready, also after a
// restart.
func TestSpares(t *testing.T) {
	dataDir := filepath.Join(shortTempDir(t), "data")
	h := startHearthOn(t, "/", dataDir, "--spare-runners=1")
	spare := func() bool {
		list := h.runners(t)
		return len(list) == 1 && list[0].Spare && list[0].State == "idle"
	}
	use := func() (starts int) {
		c := newCaller(t, h)
		_, resp := c.run(c.tree(nil), nil, "true")
		report := &anypb.Any{}
		for _, a := range resp.GetResult().GetExecutionMetadata().GetAuxiliaryMetadata() {
			if strings.HasSuffix(a.TypeUrl, "ActionReport") {
				report = a
			}
		}
		return strings.Count(string(report.Value), "a spare was ready")
	}
	if use() != 0 {
		t.Error("the first action of all had a spare")
	}
	waitFor(t, "a spare is ready, and the used one is gone", spare)
	if use() != 1 {
		t.Error("the second action had no spare")
	}
	waitFor(t, "another spare is ready", spare)
	h.stop(t)
	h.killed = true // it is over
	h = startHearthOn(t, "/", dataDir, "--spare-runners=1")
	waitFor(t, "a spare is ready after a restart", spare)
	if use() != 1 {
		t.Error("the first action after a restart had no spare")
	}
}
