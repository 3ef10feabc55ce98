package reapi_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"golang.org/x/sync/errgroup"
	"google.golang.org/genproto/googleapis/bytestream"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/hearth-build/hearth/cas"
)

// dial makes a connection of the test's own.
func dial(t *testing.T, address string, options ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(address, append(options, grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	return conn
}

// REAPI K4, D14: Bazel 4 uploads each blob, however small, by a Write of its own.
// Thousands of them on one connection are all answered, a hundred at a time, and
// cost neither goroutines nor much memory.
func TestThousandsOfTinyWrites(t *testing.T) {
	const workers, each = 100, 50
	const mostBytes, mostGoroutines = 64 << 10, 10 // of one Write, client and server together
	wantNoLeaks(t)
	f := newFixture(t)
	blob := func(worker, i int) []byte { return fmt.Appendf(nil, "%d %d", worker, i) }
	write := func(data []byte) error {
		d := cas.SHA256.Sum(data)
		n, err := f.write(&bytestream.WriteRequest{ResourceName: upload(d), Data: data, FinishWrite: true})
		if err == nil && n != d.Size() {
			err = fmt.Errorf("committed %d of %d bytes", n, d.Size())
		}
		return err
	}
	if err := write([]byte("it is connected")); err != nil {
		t.Fatal(err)
	}
	idle := runtime.NumGoroutine()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var group errgroup.Group
	most := make([]int, workers)
	for w := range workers {
		group.Go(func() error {
			for i := range each {
				if err := write(blob(w, i)); err != nil {
					return fmt.Errorf("blob %d of %d: %w", i, w, err)
				}
				most[w] = max(most[w], runtime.NumGoroutine())
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if grown := (after.TotalAlloc - before.TotalAlloc) / (workers * each); grown > mostBytes {
		t.Errorf("each Write took %d bytes", grown)
	}
	if grown := slices.Max(most) - idle; grown > workers*mostGoroutines {
		t.Errorf("%d goroutines for %d Writes at a time", grown, workers)
	}
	req := &repb.FindMissingBlobsRequest{}
	for w := range workers {
		for i := range each {
			req.BlobDigests = append(req.BlobDigests, cas.SHA256.Sum(blob(w, i)).Proto())
		}
	}
	resp, err := repb.NewContentAddressableStorageClient(f.conn).FindMissingBlobs(t.Context(), req)
	if err != nil || len(resp.GetMissingBlobDigests()) > 0 {
		t.Errorf("%d are missing, %v", len(resp.GetMissingBlobDigests()), err)
	}
}

// engaged is a connection on which a hundred calls are under way that cannot end.
type engaged struct {
	executions []repb.Execution_ExecuteClient
	reads      []bytestream.ByteStream_ReadClient
	writes     []bytestream.ByteStream_WriteClient
}

// The calls of an engaged connection.
const (
	engagedExecutions = 80
	engagedReads      = 10
	engagedWrites     = 10
)

// engage begins the calls: executions of one action, reads of a blob that are not
// read on, and the first halves of writes, each until the server has it.
func (f *fixture) engage(t *testing.T, ctx context.Context, n int, blob cas.Digest) *engaged {
	t.Helper()
	// With a window that does not grow, the server cannot send all of a blob.
	conn := dial(t, f.conn.Target(), grpc.WithStaticStreamWindowSize(64<<10), grpc.WithStaticConnWindowSize(1<<20))
	e := &engaged{}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	action := f.putMessage(&repb.Action{Salt: fmt.Append(nil, n)})
	for range engagedExecutions {
		stream, err := repb.NewExecutionClient(conn).Execute(ctx, &repb.ExecuteRequest{ActionDigest: action})
		must(err)
		_, err = stream.Recv()
		must(err)
		e.executions = append(e.executions, stream)
	}
	for range engagedReads {
		stream, err := bytestream.NewByteStreamClient(conn).Read(ctx, &bytestream.ReadRequest{ResourceName: "blobs/" + blob.Name()})
		must(err)
		_, err = stream.Header() // it has begun to send
		must(err)
		e.reads = append(e.reads, stream)
	}
	for i := range engagedWrites {
		data := engagedBlob(n, i)
		stream, err := bytestream.NewByteStreamClient(conn).Write(ctx)
		must(err)
		name := upload(cas.SHA256.Sum(data))
		must(stream.Send(&bytestream.WriteRequest{ResourceName: name, Data: data[:len(data)/2]}))
		f.waitCommitted(name, int64(len(data)/2))
		e.writes = append(e.writes, stream)
	}
	return e
}

func engagedBlob(conn, i int) []byte { return fmt.Appendf(nil, "blob %d of connection %d", i, conn) }

// end lets the calls end, and checks that all end well.
func (e *engaged) end(t *testing.T, n int, blob []byte) {
	t.Helper()
	for i, stream := range e.writes {
		data := engagedBlob(n, i)
		half := len(data) / 2
		err := stream.Send(&bytestream.WriteRequest{WriteOffset: int64(half), Data: data[half:], FinishWrite: true})
		resp, closeErr := stream.CloseAndRecv()
		if err = errors.Join(err, closeErr); err != nil || resp.GetCommittedSize() != int64(len(data)) {
			t.Errorf("write %d ended with %v, %v", i, resp, err)
		}
	}
	for i, stream := range e.reads {
		var got []byte
		resp, err := stream.Recv()
		for ; err == nil; resp, err = stream.Recv() {
			got = append(got, resp.GetData()...)
		}
		if !errors.Is(err, io.EOF) || !bytes.Equal(got, blob) {
			t.Errorf("read %d ended after %d of %d bytes with %v", i, len(got), len(blob), err)
		}
	}
	for i, stream := range e.executions {
		ops, err := collect(stream)
		if err != nil || len(ops) == 0 || !ops[len(ops)-1].GetDone() {
			t.Errorf("execution %d ended with %v", i, err)
		}
	}
}

// REAPI K31, A28, I8: while a hundred calls are under way on each of several
// connections, which end only when this test lets them, lookups on another one, and
// on those themselves, are answered.
func TestLookupsBesideManyCalls(t *testing.T) {
	const connections = 4
	f := newFixture(t)
	h := f.hold()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	data := text(1 << 20) // two messages, of which one does not fit into the window
	blob := f.put(data)
	d, err := cas.FromProto(0, blob)
	if err != nil {
		t.Fatal(err)
	}
	var all []*engaged
	for n := range connections {
		all = append(all, f.engage(t, ctx, n, d))
	}
	other := dial(t, f.conn.Target())
	known, cache := digest("action"), repb.NewActionCacheClient(other)
	want := &repb.ActionResult{OutputFiles: []*repb.OutputFile{{Path: "out", Digest: blob}}}
	if _, err := cache.UpdateActionResult(ctx, &repb.UpdateActionResultRequest{ActionDigest: known, ActionResult: want}); err != nil {
		t.Fatal(err)
	}
	for i := range 200 {
		_, err := repb.NewCapabilitiesClient(other).GetCapabilities(ctx, &repb.GetCapabilitiesRequest{})
		wantCode(t, "GetCapabilities", err, codes.OK)
		_, err = cache.GetActionResult(ctx, &repb.GetActionResultRequest{ActionDigest: known})
		wantCode(t, "GetActionResult", err, codes.OK)
		_, err = cache.GetActionResult(ctx, &repb.GetActionResultRequest{ActionDigest: digest(fmt.Sprint(i))})
		wantCode(t, "GetActionResult of another", err, codes.NotFound)
	}
	if n := len(h.ended); n > 0 {
		t.Errorf("%d of the actions have ended meanwhile", n)
	}
	close(h.goOn)
	for n, e := range all {
		e.end(t, n, data)
	}
}

// REAPI K30, D1: what a build's events link to, bytestream://HOST/INSTANCE/blobs/...,
// is read by the name behind the host, as other tools do, in whole and from where a
// download broke; so is what was uploaded without an instance name.
func TestReadByLinksOfBuildEvents(t *testing.T) {
	f := newFixture(t)
	log := text(100_000)
	for _, tc := range []struct {
		prefix   string // the instance name and a slash
		function cas.Function
	}{{"", cas.SHA256}, {"team/one/", cas.SHA256}, {"team/one/", cas.BLAKE3}} {
		d := tc.function.Sum(log)
		name := tc.prefix + upload(d)
		if n, err := f.write(&bytestream.WriteRequest{ResourceName: name, Data: log, FinishWrite: true}); err != nil || n != d.Size() {
			t.Fatalf("%s: committed %d, %v", name, n, err)
		}
		link := "bytestream://" + f.conn.Target() + "/" + tc.prefix + "blobs/" + d.Name()
		for _, from := range []int{0, 12_345} {
			if got, err := readLink(t, link, from); err != nil || !bytes.Equal(got, log[from:]) {
				t.Errorf("%s from %d: %d bytes, %v", link, from, len(got), err)
			}
		}
	}
	d := cas.SHA256.Sum([]byte("never uploaded"))
	_, err := readLink(t, "bytestream://"+f.conn.Target()+"/team/one/blobs/"+d.Name(), 0)
	wantCode(t, "a link to nothing", err, codes.NotFound)
}

// readLink reads a link on a connection of its own, as a tool does that knows
// nothing else.
func readLink(t *testing.T, link string, from int) ([]byte, error) {
	t.Helper()
	u, err := url.Parse(link)
	if err != nil {
		t.Fatal(err)
	}
	reader := &fixture{t: t, conn: dial(t, u.Host)}
	return reader.read(&bytestream.ReadRequest{ResourceName: strings.TrimPrefix(u.Path, "/"), ReadOffset: int64(from)})
}
