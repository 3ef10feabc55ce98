package reapi_test

import (
	"testing"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/hearth-build/hearth/cas"
)

// REAPI E1, E2, E11, E12, E14, E17, K16: the key is a digest, of an action or not.
func TestActionCache(t *testing.T) {
	f := newFixture(t)
	client := repb.NewActionCacheClient(f.conn)
	key := digest("action")
	get := func(fn repb.DigestFunction_Value, d *repb.Digest) (*repb.ActionResult, error) {
		return client.GetActionResult(t.Context(), &repb.GetActionResultRequest{ActionDigest: d, DigestFunction: fn})
	}
	update := func(r *repb.ActionResult) {
		t.Helper()
		if _, err := client.UpdateActionResult(t.Context(), &repb.UpdateActionResultRequest{ActionDigest: key, ActionResult: r}); err != nil {
			t.Fatal(err)
		}
	}
	_, err := get(0, key)
	wantCode(t, "absent", err, codes.NotFound)
	update(&repb.ActionResult{})
	if r, err := get(0, key); err != nil || !proto.Equal(r, &repb.ActionResult{}) {
		t.Errorf("an all-default result: %v, %v", r, err)
	}
	_, err = get(repb.DigestFunction_BLAKE3, key)
	wantCode(t, "other function", err, codes.NotFound)
	otherSize := proto.Clone(key).(*repb.Digest)
	otherSize.SizeBytes++
	_, err = get(0, otherSize)
	wantCode(t, "other size", err, codes.NotFound)
	_, err = client.GetActionResult(t.Context(), &repb.GetActionResultRequest{InstanceName: "team/one", ActionDigest: key})
	wantCode(t, "other instance", err, codes.NotFound)
	update(&repb.ActionResult{ExitCode: 2})
	if r, err := get(0, key); err != nil || r.GetExitCode() != 2 {
		t.Errorf("after an overwrite: %v, %v", r, err)
	}
	update(&repb.ActionResult{StdoutDigest: digest("never uploaded")})
	_, err = get(0, key)
	wantCode(t, "incomplete", err, codes.NotFound)
}

// REAPI E6, E7, E13.
func TestActionCacheInlining(t *testing.T) {
	f := newFixture(t)
	client := repb.NewActionCacheClient(f.conn)
	key, contents := digest("action"), []byte("in a file")
	_, err := client.UpdateActionResult(t.Context(), &repb.UpdateActionResultRequest{ActionDigest: key, ActionResult: &repb.ActionResult{
		StdoutRaw:   []byte("out"),
		OutputFiles: []*repb.OutputFile{{Path: "a/b", Digest: cas.SHA256.Sum(contents).Proto(), Contents: contents}, {Path: "c", Digest: f.put([]byte("c"))}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	plain, err := client.GetActionResult(t.Context(), &repb.GetActionResultRequest{ActionDigest: key})
	if err != nil || plain.GetStdoutRaw() != nil || plain.GetStdoutDigest() == nil || plain.GetOutputFiles()[0].GetContents() != nil {
		t.Errorf("without wishes: %v, %v", plain, err)
	}
	full, err := client.GetActionResult(t.Context(), &repb.GetActionResultRequest{
		ActionDigest: key, InlineStdout: true, InlineStderr: true, InlineOutputFiles: []string{"a/b", "unknown"},
	})
	if err != nil || string(full.GetStdoutRaw()) != "out" || string(full.GetOutputFiles()[0].GetContents()) != "in a file" || full.GetOutputFiles()[1].GetContents() != nil {
		t.Errorf("with wishes: %v, %v", full, err)
	}
}

// REAPI E9, E10, E13.
func TestUpdateActionResultRefuses(t *testing.T) {
	f := newFixture(t)
	client := repb.NewActionCacheClient(f.conn)
	file := func(path string) *repb.OutputFile { return &repb.OutputFile{Path: path, Digest: digest("x")} }
	for name, r := range map[string]*repb.ActionResult{
		"absent":           nil,
		"absolute path":    {OutputFiles: []*repb.OutputFile{file("/etc/passwd")}},
		"escaping path":    {OutputFiles: []*repb.OutputFile{file("a/../../b")}},
		"empty path":       {OutputFiles: []*repb.OutputFile{file("")}},
		"twice":            {OutputFiles: []*repb.OutputFile{file("a"), file("a")}},
		"no digest":        {OutputFiles: []*repb.OutputFile{{Path: "a"}}},
		"wrong function":   {StdoutDigest: cas.SHA1.Sum([]byte("a")).Proto()},
		"malformed digest": {StdoutDigest: &repb.Digest{Hash: "zz"}},
		"inlined mismatch": {StdoutRaw: []byte("a"), StdoutDigest: digest("b")},
	} {
		_, err := client.UpdateActionResult(t.Context(), &repb.UpdateActionResultRequest{ActionDigest: digest("k"), ActionResult: r})
		wantCode(t, name, err, codes.InvalidArgument)
	}
	for name, d := range badDigests() {
		_, err := client.UpdateActionResult(t.Context(), &repb.UpdateActionResultRequest{ActionDigest: d, ActionResult: &repb.ActionResult{}})
		wantCode(t, name, err, codes.InvalidArgument)
		_, err = client.GetActionResult(t.Context(), &repb.GetActionResultRequest{ActionDigest: d})
		wantCode(t, name, err, codes.InvalidArgument)
	}
}
