package reapi_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/genproto/googleapis/bytestream"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/actioncache"
	"github.com/hearth-build/hearth/cas/disk"
	"github.com/hearth-build/hearth/cas/memory"
	"github.com/hearth-build/hearth/reapi"
	"github.com/hearth-build/hearth/reapi/execution"
)

// storage is a fixture whose empty instance name has a store of the test's.
func storage(t *testing.T, store cas.Store) *fixture {
	t.Helper()
	return newFixtureOf(t, reapi.Instances{"": &execution.Instance{
		Store: store, Results: actioncache.Complete(actioncache.NewMemory(1<<20), store),
	}})
}

// REAPI A10-A13, A15, A22: what old clients decide by.
func TestCapabilitiesForOldClients(t *testing.T) {
	f := newFixture(t)
	c, err := repb.NewCapabilitiesClient(f.conn).GetCapabilities(t.Context(), &repb.GetCapabilitiesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if c.GetDeprecatedApiVersion() != nil {
		t.Errorf("%v is deprecated, which makes clients warn", c.GetDeprecatedApiVersion())
	}
	if got := c.GetCacheCapabilities().GetSymlinkAbsolutePathStrategy(); got != repb.SymlinkAbsolutePathStrategy_ALLOWED {
		t.Errorf("absolute symlinks: %v", got)
	}
	ranges := c.GetExecutionCapabilities().GetExecutionPriorityCapabilities().GetPriorities()
	if len(ranges) == 0 || ranges[0].GetMinPriority() > -1 || ranges[0].GetMaxPriority() < 1 {
		t.Errorf("priorities of executions: %v", ranges)
	}
	_, err = repb.NewActionCacheClient(f.conn).UpdateActionResult(t.Context(),
		&repb.UpdateActionResultRequest{ActionDigest: digest("action"), ActionResult: &repb.ActionResult{}})
	wantCode(t, "an update, which is announced", err, codes.OK)
}

// REAPI A25, D7: an instance name has any number of segments.
func TestInstanceNamesOfManySegments(t *testing.T) {
	instances := reapi.Instances{}
	for _, name := range []string{"", "a", "a/b/c", "blake3/zstd/x"} {
		store := memory.New(1 << 20)
		instances[name] = &execution.Instance{Name: name, Store: store, Results: actioncache.NewMemory(10_000)}
	}
	f := newFixtureOf(t, instances)
	for name := range instances {
		data := []byte("only in " + name)
		d, prefix := cas.SHA256.Sum(data), name+"/"
		if name == "" {
			prefix = ""
		}
		if n, err := f.write(&bytestream.WriteRequest{ResourceName: prefix + upload(d), Data: data, FinishWrite: true}); err != nil || n != d.Size() {
			t.Errorf("%q: write: %d, %v", name, n, err)
		}
		if got, err := f.read(&bytestream.ReadRequest{ResourceName: prefix + "blobs/" + d.Name()}); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%q: read: %q, %v", name, got, err)
		}
		for other := range instances {
			resp, err := repb.NewContentAddressableStorageClient(f.conn).FindMissingBlobs(t.Context(),
				&repb.FindMissingBlobsRequest{InstanceName: other, BlobDigests: []*repb.Digest{d.Proto()}})
			if err != nil || (len(resp.GetMissingBlobDigests()) == 0) != (other == name) {
				t.Errorf("%q in %q: %v, %v", name, other, resp, err)
			}
		}
	}
}

// REAPI C7: a blob that is reported present can be read at once, in each way.
func TestPresentIsReadable(t *testing.T) {
	f := newFixture(t)
	client := repb.NewContentAddressableStorageClient(f.conn)
	data := text(300_000)
	d := cas.SHA256.Sum(data)
	if _, err := f.write(&bytestream.WriteRequest{ResourceName: upload(d), Data: data, FinishWrite: true}); err != nil {
		t.Fatal(err)
	}
	if resp, err := client.FindMissingBlobs(t.Context(), &repb.FindMissingBlobsRequest{BlobDigests: []*repb.Digest{d.Proto()}}); err != nil || len(resp.GetMissingBlobDigests()) > 0 {
		t.Fatalf("%v, %v", resp, err)
	}
	if got, err := f.read(&bytestream.ReadRequest{ResourceName: "blobs/" + d.Name()}); err != nil || !bytes.Equal(got, data) {
		t.Errorf("identity: %d bytes, %v", len(got), err)
	}
	for name, unpack := range unpackers() {
		packed, err := f.read(&bytestream.ReadRequest{ResourceName: "compressed-blobs/" + name + "/" + d.Name()})
		if err != nil || !bytes.Equal(unpack(t, packed), data) {
			t.Errorf("%s: %d bytes, %v", name, len(packed), err)
		}
	}
	resp, err := client.BatchReadBlobs(t.Context(), &repb.BatchReadBlobsRequest{Digests: []*repb.Digest{d.Proto()}})
	if err != nil || !bytes.Equal(resp.GetResponses()[0].GetData(), data) {
		t.Errorf("in a batch: %v", err)
	}
}

// full is a store that has no room, or takes small blobs only.
type full struct {
	cas.Store
	err error
}

func (s full) Put(context.Context, *cas.Content) error { return fmt.Errorf("store it: %w", s.err) }

// REAPI 0.6, A18, C13, D21, E9.
func TestNoRoom(t *testing.T) {
	data := []byte("a blob")
	d := cas.SHA256.Sum(data)
	for err, want := range map[error]codes.Code{cas.ErrNoSpace: codes.ResourceExhausted, cas.ErrTooLarge: codes.InvalidArgument} {
		f := storage(t, full{memory.New(1 << 20), err})
		resp, err := repb.NewContentAddressableStorageClient(f.conn).BatchUpdateBlobs(t.Context(), &repb.BatchUpdateBlobsRequest{
			Requests: []*repb.BatchUpdateBlobsRequest_Request{{Digest: d.Proto(), Data: data}},
		})
		if err != nil {
			t.Fatal(err)
		}
		inBatch := status.ErrorProto(resp.GetResponses()[0].GetStatus())
		_, inStream := f.write(&bytestream.WriteRequest{ResourceName: upload(d), Data: data, FinishWrite: true})
		_, inResult := repb.NewActionCacheClient(f.conn).UpdateActionResult(t.Context(), &repb.UpdateActionResultRequest{
			ActionDigest: digest("action"), ActionResult: &repb.ActionResult{StdoutRaw: data},
		})
		for what, err := range map[string]error{"in a batch": inBatch, "in a stream": inStream, "in a result": inResult} {
			wantCode(t, what, err, want)
			if hasRetryInfo(err) != (want == codes.ResourceExhausted) {
				t.Errorf("%s: %v with details %v", what, err, status.Convert(err).Details())
			}
		}
	}
}

// REAPI C20: what was damaged on the disk is not found, whoever asks and how, and
// comes back with the next upload.
func TestDamagedBlob(t *testing.T) {
	dir := t.TempDir()
	d, err := disk.Open(t.Context(), disk.Options{Dir: dir, MinFreeBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	f := storage(t, d.Namespace(""))
	client := repb.NewContentAddressableStorageClient(f.conn)
	read := map[string]func(d cas.Digest) error{
		"a stream": func(d cas.Digest) error {
			_, err := f.read(&bytestream.ReadRequest{ResourceName: "blobs/" + d.Name()})
			return err
		},
		"a compressed stream": func(d cas.Digest) error {
			_, err := f.read(&bytestream.ReadRequest{ResourceName: "compressed-blobs/zstd/" + d.Name()})
			return err
		},
		"a batch": func(d cas.Digest) error {
			resp, err := client.BatchReadBlobs(t.Context(), &repb.BatchReadBlobsRequest{Digests: []*repb.Digest{d.Proto()}})
			if err != nil {
				return err
			}
			r := resp.GetResponses()[0]
			if absent := r.GetStatus().GetCode() != 0; absent == (len(r.GetData()) > 0) {
				t.Errorf("%d bytes with status %v", len(r.GetData()), r.GetStatus())
			}
			return status.ErrorProto(r.GetStatus())
		},
	}
	for name, call := range read {
		data := append([]byte(name), text(200_000)...)
		blob := cas.SHA256.Sum(data)
		f.put(data)
		damageFile(t, dir, blob)
		wantCode(t, name, call(blob), codes.NotFound)
		resp, err := client.FindMissingBlobs(t.Context(), &repb.FindMissingBlobsRequest{BlobDigests: []*repb.Digest{blob.Proto()}})
		if err != nil || len(resp.GetMissingBlobDigests()) != 1 {
			t.Errorf("%s: after it %v is missing, %v", name, resp, err)
		}
		if _, err := f.write(&bytestream.WriteRequest{ResourceName: upload(blob), Data: data, FinishWrite: true}); err != nil {
			t.Error(err)
		}
		wantCode(t, name+", after an upload", call(blob), codes.OK)
	}
}

// damageFile changes a byte of a blob's file.
func damageFile(t *testing.T, dir string, d cas.Digest) {
	t.Helper()
	found := 0
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.HasPrefix(e.Name(), d.Hash()) {
			return err
		}
		found++
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = f.WriteAt([]byte{0}, d.Size()/2)
		return errors.Join(err, f.Close())
	})
	if err != nil || found != 1 {
		t.Fatalf("%d files of %v, %v", found, d, err)
	}
}

// REAPI C4, C21, D37, K8: what is looked for or read stays longer.
func TestUseKeepsBlobs(t *testing.T) {
	client := func(f *fixture) repb.ContentAddressableStorageClient {
		return repb.NewContentAddressableStorageClient(f.conn)
	}
	for name, use := range map[string]func(f *fixture, d cas.Digest) error{
		"Read": func(f *fixture, d cas.Digest) error {
			_, err := f.read(&bytestream.ReadRequest{ResourceName: "blobs/" + d.Name()})
			return err
		},
		"Read compressed": func(f *fixture, d cas.Digest) error {
			_, err := f.read(&bytestream.ReadRequest{ResourceName: "compressed-blobs/zstd/" + d.Name()})
			return err
		},
		"BatchReadBlobs": func(f *fixture, d cas.Digest) error {
			_, err := client(f).BatchReadBlobs(t.Context(), &repb.BatchReadBlobsRequest{Digests: []*repb.Digest{d.Proto()}})
			return err
		},
		"FindMissingBlobs": func(f *fixture, d cas.Digest) error {
			_, err := client(f).FindMissingBlobs(t.Context(), &repb.FindMissingBlobsRequest{BlobDigests: []*repb.Digest{d.Proto()}})
			return err
		},
	} {
		const size = 100_000
		f := storage(t, memory.New(3*size+size/2))
		blob := func(i int) []byte { return append([]byte{byte(i)}, make([]byte, size-1)...) }
		for i := range 3 {
			f.put(blob(i))
		}
		first, second := cas.SHA256.Sum(blob(0)), cas.SHA256.Sum(blob(1))
		if err := use(f, first); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		f.put(blob(3)) // the oldest of those not used goes
		missing, err := f.instances[""].Store.FindMissing(t.Context(), []cas.Digest{first, second})
		if err != nil || len(missing) != 1 || missing[0] != second {
			t.Errorf("%s: %v are missing, %v, want the one that was not used", name, missing, err)
		}
	}
}

// REAPI C43: the header with the resource name of a call is not looked at.
func TestResourceNameHeader(t *testing.T) {
	f := newFixture(t)
	for _, value := range []string{"", "blobs", "another/instance"} {
		ctx := metadata.AppendToOutgoingContext(t.Context(), "build.bazel.remote.execution.v2.resource-name", value)
		_, err := repb.NewContentAddressableStorageClient(f.conn).FindMissingBlobs(ctx, &repb.FindMissingBlobsRequest{BlobDigests: []*repb.Digest{digest("x")}})
		wantCode(t, fmt.Sprintf("with %q", value), err, codes.OK)
	}
}

// REAPI D24, I9: what is compressed may be compressed once more on its way.
func TestCompressedTwice(t *testing.T) {
	f := newFixture(t)
	data := text(500_000)
	d, packed := cas.SHA256.Sum(data), packZstd(t, data)
	stream, err := bytestream.NewByteStreamClient(f.conn).Write(t.Context(), grpc.UseCompressor(gzip.Name))
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&bytestream.WriteRequest{ResourceName: "uploads/u/compressed-blobs/zstd/" + d.Name(), Data: packed, FinishWrite: true}); err != nil {
		t.Fatal(err)
	}
	resp, err := stream.CloseAndRecv()
	if err != nil || resp.GetCommittedSize() != int64(len(packed)) {
		t.Errorf("%v, %v", resp, err)
	}
	if got, err := cas.ReadAll(t.Context(), f.instances[""].Store, d, d.Size()); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// lossy is a store that answers for blobs that it does not have any more.
type lossy struct{ cas.Store }

func (lossy) FindMissing(context.Context, []cas.Digest) ([]cas.Digest, error) { return nil, nil }

// REAPI E6, E8: what is inlined is what the digest says, or nothing.
func TestInlinedIsWhole(t *testing.T) {
	f := storage(t, lossy{memory.New(1 << 20)})
	client := repb.NewActionCacheClient(f.conn)
	result := &repb.ActionResult{
		StdoutDigest: digest("lost"),
		OutputFiles: []*repb.OutputFile{
			{Path: "here", Digest: f.put([]byte("here"))},
			{Path: "lost", Digest: digest("lost as well")},
			{Path: "empty", Digest: digest("")},
			{Path: "large", Digest: f.put(make([]byte, 900_000))},
		},
	}
	if _, err := client.UpdateActionResult(t.Context(), &repb.UpdateActionResultRequest{ActionDigest: digest("action"), ActionResult: result}); err != nil {
		t.Fatal(err)
	}
	got, err := client.GetActionResult(t.Context(), &repb.GetActionResultRequest{
		ActionDigest: digest("action"), InlineStdout: true, InlineOutputFiles: []string{"here", "lost", "empty", "large"},
	})
	if err != nil || len(got.GetStdoutRaw()) > 0 || !proto.Equal(got.GetStdoutDigest(), result.GetStdoutDigest()) {
		t.Fatalf("stdout %q, %v, %v", got.GetStdoutRaw(), got.GetStdoutDigest(), err)
	}
	for i, file := range got.GetOutputFiles() {
		inlined := file.GetContents()
		if !proto.Equal(file.GetDigest(), result.GetOutputFiles()[i].GetDigest()) {
			t.Errorf("%s has the digest %v", file.GetPath(), file.GetDigest())
		}
		if len(inlined) > 0 && !proto.Equal(cas.SHA256.Sum(inlined).Proto(), file.GetDigest()) {
			t.Errorf("%s has %d other bytes inlined", file.GetPath(), len(inlined))
		}
		if wanted := file.GetPath() == "here"; wanted && string(inlined) != "here" || file.GetPath() == "lost" && len(inlined) > 0 {
			t.Errorf("%s has %q inlined", file.GetPath(), inlined)
		}
	}
	if size := proto.Size(got); size > 4<<20-64<<10 {
		t.Errorf("the reply has %d bytes", size)
	}
}

// REAPI E18: any priority is taken.
func TestResultPriorities(t *testing.T) {
	f := newFixture(t)
	f.run = func(context.Context, *execution.Task, execution.Report) *execution.Outcome {
		return &execution.Outcome{Result: &repb.ActionResult{}}
	}
	action := f.putMessage(&repb.Action{})
	for _, priority := range []int32{math.MinInt32, -1, 0, 1, math.MaxInt32} {
		policy := &repb.ResultsCachePolicy{Priority: priority}
		_, err := repb.NewActionCacheClient(f.conn).UpdateActionResult(t.Context(),
			&repb.UpdateActionResultRequest{ActionDigest: action, ActionResult: &repb.ActionResult{}, ResultsCachePolicy: policy})
		wantCode(t, fmt.Sprint("update with priority ", priority), err, codes.OK)
		_, err = f.execute(&repb.ExecuteRequest{ActionDigest: action, ResultsCachePolicy: policy})
		wantCode(t, fmt.Sprint("execute with priority ", priority), err, codes.OK)
	}
}

// REAPI I10: a server that ends lets what has begun come to its end, and takes
// nothing new.
func TestFinishLetsStreamsEnd(t *testing.T) {
	f := newFixture(t)
	data := text(4 << 20) // more than is sent ahead
	d := cas.SHA256.Sum(data)
	f.put(data)
	slow := dial(t, f.conn.Target(), grpc.WithStaticStreamWindowSize(64<<10), grpc.WithStaticConnWindowSize(64<<10))
	stream, err := bytestream.NewByteStreamClient(slow).Read(t.Context(), &bytestream.ReadRequest{ResourceName: "blobs/" + d.Name()})
	if err != nil {
		t.Fatal(err)
	}
	first, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	finished := make(chan struct{})
	go func() { // ends within seconds, as Finish does
		f.server.Finish()
		close(finished)
	}()
	late, err := grpc.NewClient(f.conn.Target(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer late.Close() // nothing is under way
	for deadline := time.Now().Add(time.Minute); ; {
		_, err := repb.NewCapabilitiesClient(late).GetCapabilities(t.Context(), &repb.GetCapabilitiesRequest{})
		if status.Code(err) == codes.Unavailable {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("a new client is served: %v", err)
		}
	}
	got := first.GetData()
	for err == nil {
		var resp *bytestream.ReadResponse
		if resp, err = stream.Recv(); err == nil {
			got = append(got, resp.GetData()...)
		}
	}
	if !errors.Is(err, io.EOF) || !bytes.Equal(got, data) {
		t.Errorf("%d of %d bytes, then %v", len(got), len(data), err)
	}
	<-finished
}
