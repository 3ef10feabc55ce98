package reapi_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	remoteasset "github.com/bazelbuild/remote-apis/build/bazel/remote/asset/v1"
	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/genproto/googleapis/bytestream"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/reapi"
	"github.com/hearth-build/hearth/reapi/access"
	"github.com/hearth-build/hearth/reapi/execution"
)

// guarded is a server whose callers have a role each in the instance name
// team/one, with a token that is the role's name. That of "late" has expired,
// "stranger" has a role in another instance name, and those who begin with "b-"
// are of the tenant b.
type guarded struct{ *fixture }

const guardedInstance = "team/one"

func newGuarded(t *testing.T) guarded {
	t.Helper()
	var list strings.Builder
	list.WriteString("principals:\n")
	for _, p := range []struct{ name, more, instance, role string }{
		{"read", "", guardedInstance, "read"},
		{"write", "", guardedInstance, "write"},
		{"execute", "", guardedInstance, "execute"},
		{"admin", "", guardedInstance, "admin"},
		{"late", ", expires: 2020-01-01T00:00:00Z", guardedInstance, "admin"},
		{"stranger", "", "elsewhere", "admin"},
		{"b-admin", ", tenant: b", guardedInstance, "admin"},
	} {
		fmt.Fprintf(&list, "- {name: %s, token-sha256: %s%s, roles: {%q: [%s]}}\n", p.name, access.HashToken(p.name), p.more, p.instance, p.role)
	}
	file := filepath.Join(t.TempDir(), "principals.yaml")
	if err := os.WriteFile(file, []byte(list.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	keyring, err := access.OpenKeyring(file)
	if err != nil {
		t.Fatal(err)
	}
	tenants := sync.OnceValue(newInstances)
	f := newFixtureWith(t, newInstances(), execution.SchedulerOptions{},
		reapi.WithAccess(keyring, func(tenant string) (reapi.Instances, error) {
			if tenant != "b" {
				return nil, errors.New("the only tenant is b")
			}
			return tenants(), nil
		}),
		reapi.WithAssets(func(*execution.Instance) reapi.Assets { return nil }))
	return guarded{f}
}

// as is a context of a call with a token; "" is without.
func as(t testing.TB, token string) context.Context {
	if token == "" {
		return t.Context()
	}
	return metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+token)
}

// ask makes a call of any kind with one message, and returns how it was answered:
// the first message is enough.
func (f guarded) ask(ctx context.Context, method string, req proto.Message) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := f.conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, method)
	if err != nil {
		return err
	}
	if err := stream.SendMsg(req); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	if err := stream.RecvMsg(&emptypb.Empty{}); !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// upload stores a message as a caller.
func (f guarded) upload(caller string, m proto.Message) *repb.Digest {
	f.t.Helper()
	data, err := proto.Marshal(m)
	if err != nil {
		f.t.Fatal(err)
	}
	d := cas.SHA256.Sum(data).Proto()
	resp, err := repb.NewContentAddressableStorageClient(f.conn).BatchUpdateBlobs(as(f.t, caller), &repb.BatchUpdateBlobsRequest{
		InstanceName: guardedInstance, Requests: []*repb.BatchUpdateBlobsRequest_Request{{Digest: d, Data: data}},
	})
	if err != nil || resp.GetResponses()[0].GetStatus().GetCode() != 0 {
		f.t.Fatalf("%v, %v", resp, err)
	}
	return d
}

// start begins an action of a caller, which runs until the test ends.
func (f guarded) start(caller string, action *repb.Digest) (operation string) {
	f.t.Helper()
	stream, err := repb.NewExecutionClient(f.conn).Execute(as(f.t, caller), &repb.ExecuteRequest{InstanceName: guardedInstance, ActionDigest: action, SkipCacheLookup: true})
	if err != nil {
		f.t.Fatal(err)
	}
	op, err := stream.Recv()
	if err != nil {
		f.t.Fatal(err)
	}
	return op.GetName()
}

// permission is a call, and who may make it.
type permission struct {
	req   proto.Message
	roles access.Roles
	// hidden: who may not read hears that there is nothing.
	hidden bool
}

const v2 = "/build.bazel.remote.execution.v2."

// permissions are those of all calls but health checks, which are for everybody.
func permissions(operation string) map[string]permission {
	const in = guardedInstance
	blob := "blobs/" + cas.SHA256.Sum([]byte("blob")).Name()
	return map[string]permission{
		v2 + "Capabilities/GetCapabilities":                   {req: &repb.GetCapabilitiesRequest{InstanceName: in}, roles: access.Read},
		v2 + "ActionCache/GetActionResult":                    {req: &repb.GetActionResultRequest{InstanceName: in}, roles: access.Read},
		v2 + "ActionCache/UpdateActionResult":                 {req: &repb.UpdateActionResultRequest{InstanceName: in}, roles: access.Write},
		v2 + "ContentAddressableStorage/FindMissingBlobs":     {req: &repb.FindMissingBlobsRequest{InstanceName: in}, roles: access.Read},
		v2 + "ContentAddressableStorage/BatchReadBlobs":       {req: &repb.BatchReadBlobsRequest{InstanceName: in}, roles: access.Read},
		v2 + "ContentAddressableStorage/GetTree":              {req: &repb.GetTreeRequest{InstanceName: in}, roles: access.Read},
		v2 + "ContentAddressableStorage/SplitBlob":            {req: &repb.SplitBlobRequest{InstanceName: in}, roles: access.Read},
		v2 + "ContentAddressableStorage/BatchUpdateBlobs":     {req: &repb.BatchUpdateBlobsRequest{InstanceName: in}, roles: access.Upload},
		v2 + "ContentAddressableStorage/SpliceBlob":           {req: &repb.SpliceBlobRequest{InstanceName: in}, roles: access.Upload},
		v2 + "ContentAddressableStorage/GetChunkMapping":      {req: &repb.GetChunkMappingRequest{}}, // not implemented
		v2 + "ContentAddressableStorage/RegisterChunkMapping": {req: &repb.RegisterChunkMappingRequest{}},
		v2 + "Execution/Execute":                              {req: &repb.ExecuteRequest{InstanceName: in, ActionDigest: digest("none")}, roles: access.Execute},
		v2 + "Execution/WaitExecution":                        {req: &repb.WaitExecutionRequest{Name: operation}, roles: access.Read, hidden: true},
		"/google.bytestream.ByteStream/Read":                  {req: &bytestream.ReadRequest{ResourceName: in + "/" + blob}, roles: access.Read},
		"/google.bytestream.ByteStream/Write":                 {req: &bytestream.WriteRequest{ResourceName: in + "/uploads/u/" + blob}, roles: access.Upload},
		"/google.bytestream.ByteStream/QueryWriteStatus":      {req: &bytestream.QueryWriteStatusRequest{ResourceName: in + "/uploads/u/" + blob}, roles: access.Upload},
		"/google.longrunning.Operations/GetOperation":         {req: &longrunningpb.GetOperationRequest{Name: operation}, roles: access.Read, hidden: true},
		"/google.longrunning.Operations/WaitOperation":        {req: &longrunningpb.WaitOperationRequest{Name: operation, Timeout: durationpb.New(1)}, roles: access.Read, hidden: true},
		"/google.longrunning.Operations/ListOperations":       {req: &longrunningpb.ListOperationsRequest{}}, // of what one may read
		"/google.longrunning.Operations/CancelOperation":      {req: &longrunningpb.CancelOperationRequest{Name: operation}, roles: access.Execute, hidden: true},
		"/google.longrunning.Operations/DeleteOperation":      {req: &longrunningpb.DeleteOperationRequest{Name: operation}, roles: access.Execute, hidden: true},
		"/build.bazel.remote.asset.v1.Fetch/FetchBlob":        {req: &remoteasset.FetchBlobRequest{InstanceName: in}, roles: access.Upload},
		"/build.bazel.remote.asset.v1.Fetch/FetchDirectory":   {req: &remoteasset.FetchDirectoryRequest{InstanceName: in}, roles: access.Upload},
		"/build.bazel.remote.asset.v1.Push/PushBlob":          {req: &remoteasset.PushBlobRequest{InstanceName: in}, roles: access.Write},
		"/build.bazel.remote.asset.v1.Push/PushDirectory":     {req: &remoteasset.PushDirectoryRequest{InstanceName: in}, roles: access.Write},
		"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo": {req: &grpc_reflection_v1.ServerReflectionRequest{
			MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_ListServices{},
		}},
		"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": {req: &grpc_reflection_v1alpha.ServerReflectionRequest{ //nolint:staticcheck // old clients ask so
			MessageRequest: &grpc_reflection_v1alpha.ServerReflectionRequest_ListServices{}, //nolint:staticcheck // old clients ask so
		}},
	}
}

// REAPI F59, I3, I4, E9, J22: every call there is, by every kind of
// caller. Nothing is called that is not in the table.
func TestPermissions(t *testing.T) {
	f := newGuarded(t)
	h := f.hold()
	defer close(h.goOn)
	table := permissions(f.start("execute", f.upload("execute", &repb.Action{})))
	f.checkTable(table)
	callers := map[string]access.Roles{
		"read": access.Read, "write": access.Read | access.Write, "execute": access.Read | access.Execute, "stranger": 0,
		"b-admin": access.All, // in its own tenant
		"admin":   access.All,
	}
	// What takes more rights may end the operation, so it comes later.
	order := []string{"", "wrong", "late", "stranger", "b-admin", "read", "write", "execute", "admin"}
	for _, caller := range order {
		for _, method := range slices.Sorted(maps.Keys(table)) {
			p := table[method]
			err := f.ask(as(t, caller), method, p.req)
			roles, known := callers[caller]
			got, what := status.Code(err), fmt.Sprintf("%s by %q", method, caller)
			switch {
			case !known:
				wantCode(t, what, err, codes.Unauthenticated)
			case p.hidden && (roles == 0 || caller == "b-admin"):
				wantCode(t, what, err, codes.NotFound)
			case p.roles != 0 && roles&p.roles == 0:
				wantCode(t, what, err, codes.PermissionDenied)
			case got == codes.PermissionDenied || got == codes.Unauthenticated:
				t.Errorf("%s: %v", what, err)
			}
		}
	}
}

// checkTable compares the table with what the server has.
func (f guarded) checkTable(table map[string]permission) {
	f.t.Helper()
	for service, info := range f.server.GetServiceInfo() {
		for _, m := range info.Methods {
			name := "/" + service + "/" + m.Name
			if _, ok := table[name]; !ok && service != "grpc.health.v1.Health" {
				f.t.Errorf("%s is not in the table", name)
			}
		}
	}
}

// REAPI A6, A11, E9: capabilities say what the caller may do.
func TestCapabilitiesOfCallers(t *testing.T) {
	f := newGuarded(t)
	for caller, want := range map[string]struct{ execute, update bool }{
		"read": {false, false}, "execute": {true, false}, "write": {false, true}, "admin": {true, true},
	} {
		c, err := repb.NewCapabilitiesClient(f.conn).GetCapabilities(as(t, caller), &repb.GetCapabilitiesRequest{InstanceName: guardedInstance})
		if err != nil {
			t.Fatal(err)
		}
		if got := c.GetExecutionCapabilities().GetExecEnabled(); got != want.execute {
			t.Errorf("%s may execute: %v", caller, got)
		}
		update := c.GetCacheCapabilities().GetActionCacheUpdateCapabilities().GetUpdateEnabled()
		_, err = repb.NewActionCacheClient(f.conn).UpdateActionResult(as(t, caller), &repb.UpdateActionResultRequest{
			InstanceName: guardedInstance, ActionDigest: digest("a"), ActionResult: &repb.ActionResult{},
		})
		if refused := status.Code(err) == codes.PermissionDenied; update != want.update || refused == update {
			t.Errorf("%s may update: %v; asked to: %v", caller, update, err)
		}
	}
}

// REAPI E19: who may execute and not write has results stored by hearth alone.
func TestExecutionStoresResults(t *testing.T) {
	f := newGuarded(t)
	cached := execution.WithCaching(executorFunc(func(context.Context, *execution.Task, execution.Report) *execution.Outcome {
		return &execution.Outcome{Result: &repb.ActionResult{StdoutRaw: []byte("by hearth")}}
	}))
	f.run = cached.Execute
	command := f.upload("execute", &repb.Command{Arguments: []string{"true"}})
	action := f.upload("execute", &repb.Action{CommandDigest: command, InputRootDigest: f.upload("execute", &repb.Directory{})})
	results := repb.NewActionCacheClient(f.conn)
	_, err := results.UpdateActionResult(as(t, "execute"), &repb.UpdateActionResultRequest{
		InstanceName: guardedInstance, ActionDigest: action, ActionResult: &repb.ActionResult{StdoutRaw: []byte("by a client")},
	})
	wantCode(t, "an update by who may execute", err, codes.PermissionDenied)
	stream, err := repb.NewExecutionClient(f.conn).Execute(as(t, "execute"), &repb.ExecuteRequest{InstanceName: guardedInstance, ActionDigest: action})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := collect(stream); err != nil {
		t.Fatal(err)
	}
	got, err := results.GetActionResult(as(t, "read"), &repb.GetActionResultRequest{InstanceName: guardedInstance, ActionDigest: action})
	if err != nil || string(got.GetStdoutRaw()) != "by hearth" {
		t.Errorf("%v, %v", got, err)
	}
}

// Who has no role in an instance name hears the same whether it is served or not.
func TestRefusalsRevealNothing(t *testing.T) {
	f := newGuarded(t)
	ask := func(instance string) string {
		_, err := repb.NewCapabilitiesClient(f.conn).GetCapabilities(as(t, "stranger"), &repb.GetCapabilitiesRequest{InstanceName: instance})
		return strings.ReplaceAll(fmt.Sprint(err), instance, "NAME")
	}
	if there, absent := ask(guardedInstance), ask("no/such"); there != absent || !strings.Contains(there, "PermissionDenied") {
		t.Errorf("%s\n%s", there, absent)
	}
}

// REAPI I4, F18: tenants with the same instance name share no blob, result, upload,
// run or operation.
func TestTenantsAreApart(t *testing.T) {
	f := newGuarded(t)
	h := f.hold()
	d := f.upload("admin", &repb.Action{Salt: []byte("a's own")})
	_, err := repb.NewActionCacheClient(f.conn).UpdateActionResult(as(t, "admin"), &repb.UpdateActionResultRequest{
		InstanceName: guardedInstance, ActionDigest: d, ActionResult: &repb.ActionResult{ExitCode: 0},
	})
	wantCode(t, "update", err, codes.OK)
	for caller, missing := range map[string]int{"admin": 0, "b-admin": 1} {
		resp, err := repb.NewContentAddressableStorageClient(f.conn).FindMissingBlobs(as(t, caller), &repb.FindMissingBlobsRequest{InstanceName: guardedInstance, BlobDigests: []*repb.Digest{d}})
		if err != nil || len(resp.GetMissingBlobDigests()) != missing {
			t.Errorf("%s misses %v, %v", caller, resp.GetMissingBlobDigests(), err)
		}
	}
	_, err = repb.NewActionCacheClient(f.conn).GetActionResult(as(t, "b-admin"), &repb.GetActionResultRequest{InstanceName: guardedInstance, ActionDigest: d})
	wantCode(t, "another tenant's result", err, codes.NotFound)
	f.upload("b-admin", &repb.Action{Salt: []byte("a's own")})
	names := map[string]string{"admin": f.start("admin", d), "b-admin": f.start("b-admin", d)}
	eventually(t, "each tenant has a run of its own", func() bool { return f.scheduler.Load().Running == 2 })
	list, err := f.operations().ListOperations(as(t, "b-admin"), &longrunningpb.ListOperationsRequest{})
	if err != nil || len(list.GetOperations()) != 1 || list.GetOperations()[0].GetName() != names["b-admin"] {
		t.Errorf("b has %v, %v", list, err)
	}
	f.wantUnknown(as(t, "b-admin"), names["admin"])
	f.wantUnknown(as(t, "admin"), names["b-admin"])
	close(h.goOn)
}

// An upload that broke off is continued by its tenant alone, who else asks hears
// that nothing is there.
func TestUploadsOfTenants(t *testing.T) {
	f := newGuarded(t)
	blob := []byte(strings.Repeat("x", 1<<20))
	name := guardedInstance + "/uploads/u/blobs/" + cas.SHA256.Sum(blob).Name()
	stream, err := bytestream.NewByteStreamClient(f.conn).Write(as(t, "admin"))
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&bytestream.WriteRequest{ResourceName: name, Data: blob[:1000]}); err != nil {
		t.Fatal(err)
	}
	committed := func(caller string) int64 {
		resp, err := bytestream.NewByteStreamClient(f.conn).QueryWriteStatus(as(t, caller), &bytestream.QueryWriteStatusRequest{ResourceName: name})
		if err != nil {
			t.Fatal(err)
		}
		return resp.GetCommittedSize()
	}
	eventually(t, "its tenant sees the upload", func() bool { return committed("admin") == 1000 })
	if n := committed("b-admin"); n != 0 {
		t.Errorf("another tenant sees %d bytes", n)
	}
}

// REAPI I5: both headers that tokens come in, whatever else is sent with them.
func TestTokenHeaders(t *testing.T) {
	f := newGuarded(t)
	for name, headers := range map[string][]string{
		"bearer":            {"authorization", "bearer  read"},
		"key of BuildBuddy": {"x-buildbuddy-api-key", "read"},
		"two of them":       {"authorization", "Basic eDp5", "authorization", "Bearer read", "x-foreign", "1"},
	} {
		ctx := metadata.AppendToOutgoingContext(t.Context(), headers...)
		_, err := repb.NewCapabilitiesClient(f.conn).GetCapabilities(ctx, &repb.GetCapabilitiesRequest{InstanceName: guardedInstance})
		wantCode(t, name, err, codes.OK)
	}
}
