package reapi_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"
	"google.golang.org/genproto/googleapis/bytestream"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/actioncache"
	"github.com/hearth-build/hearth/cas/disk"
	"github.com/hearth-build/hearth/reapi"
	"github.com/hearth-build/hearth/reapi/execution"
)

// How many clients there are, for how long, and what their choices follow from.
const (
	manyClients  = 200
	manyTime     = time.Minute
	manySeed     = 20261125
	manyPatience = 2 * time.Minute // with one call, on a loaded machine
)

// TestManyClients: all kinds of calls at once, some of which break off, each from a
// connection of its own. Every answer is right, and nothing is left when they are
// gone. REAPI C5, C9, C16, C22, C42, D14, D16, D20, D22, D31, D32, I7, I8
func TestManyClients(t *testing.T) {
	wantNoLeaks(t)
	d, err := disk.Open(t.Context(), disk.Options{Dir: t.TempDir(), MaxBytes: 1 << 30, MinFreeBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // after the server has ended
		if s := d.Stats(); s.Reserved != 0 || s.Unproven != 0 {
			t.Errorf("when all is over: %+v", s)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	store := d.Namespace("")
	f := newFixtureOf(t, reapi.Instances{"": &execution.Instance{
		Store: store, Results: actioncache.Complete(actioncache.NewDisk(d, "ac").Namespace(""), store),
	}})
	b := newBase(t, f, store)
	defer store.Lease(b.digests)()
	idle := dialIdle(t, b.address)

	until := time.Now().Add(manyTime)
	group, ctx := errgroup.WithContext(t.Context())
	for id := range uint64(manyClients) {
		group.Go(func() error {
			return b.runClient(ctx, id, func() bool { return ctx.Err() == nil && time.Now().Before(until) })
		})
	}
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
	if state := idle.GetState(); state != connectivity.Ready {
		t.Errorf("the idle connection is %v", state)
	}
	for i, op := range operations() {
		if n := b.counts[i].Load(); n < manyClients/40 {
			t.Errorf("%s was done %d times only", op.name, n)
		} else {
			t.Logf("%7d times: %s", n, op.name)
		}
	}
}

// dialIdle makes a connection that does nothing but look, as often as gRPC allows,
// whether it is still there. A server that does not permit that closes it at the
// third time. REAPI I7
func dialIdle(t *testing.T, address string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithIdleTimeout(0),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: manyPatience, PermitWithoutStream: true}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	conn.Connect()
	for conn.GetState() != connectivity.Ready {
		if !conn.WaitForStateChange(t.Context(), conn.GetState()) {
			t.Fatal("it does not connect")
		}
	}
	return conn
}

// wantNoLeaks checks, when all that the test set up later is gone, that it left no
// goroutine and no open file.
func wantNoLeaks(t *testing.T) {
	t.Helper()
	goroutines, files := runtime.NumGoroutine(), openFiles(t)
	t.Cleanup(func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for deadline := time.Now().Add(30 * time.Second); runtime.NumGoroutine() > goroutines || openFiles(t) > files; <-tick.C {
			if time.Now().After(deadline) {
				stacks := make([]byte, 1<<20)
				t.Errorf("%d goroutines and %d open files before, %d and %d after:\n%s", goroutines, files,
					runtime.NumGoroutine(), openFiles(t), stacks[:runtime.Stack(stacks, true)])
				return
			}
		}
	})
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// base is what all clients share: blobs and a tree that are there from the start
// and stay, and the bytes that others are made of.
type base struct {
	address string
	pool    []byte
	blobs   [][]byte
	digests []cas.Digest // of the blobs, and of what else stays
	tree    *repb.Digest
	encoder *zstd.Encoder
	decoder *zstd.Decoder
	counts  [16]atomic.Int64 // of each operation
	shared  atomic.Int64     // blobs that were written with others
}

const baseDirectories = 300

func newBase(t *testing.T, f *fixture, store cas.Store) *base {
	t.Helper()
	b := &base{address: f.conn.Target(), pool: text(4 << 20)}
	var err error
	if b.encoder, err = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest)); err == nil {
		b.decoder, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(2))
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.decoder.Close)
	keep := func(data []byte) *repb.Digest {
		d, err := cas.PutBytes(t.Context(), store, cas.SHA256, data)
		if err != nil {
			t.Fatal(err)
		}
		b.digests = append(b.digests, d)
		return d.Proto()
	}
	for i := range 60 {
		data := b.blob(math.MaxUint64, uint64(i), 1+i*i*i*7) // up to 1.4 MB
		b.blobs = append(b.blobs, data)
		keep(data)
	}
	var children []*repb.Digest
	for i := range baseDirectories {
		data, err := proto.Marshal(directory(fmt.Sprint(i)))
		if err != nil {
			t.Fatal(err)
		}
		children = append(children, keep(data))
	}
	root, err := proto.Marshal(directory("root", children...))
	if err != nil {
		t.Fatal(err)
	}
	b.tree = keep(root)
	return b
}

// blob makes a blob that no other client and number has.
func (b *base) blob(client, n uint64, size int) []byte {
	at := int((client*31 + n*17) % uint64(len(b.pool)/2))
	return append(fmt.Appendf(nil, "%d %d|", client, n), b.pool[at:at+min(size, len(b.pool)/2)]...)
}

// busy is one of the clients.
type busy struct {
	*base
	id     uint64
	made   uint64 // blobs
	random *rand.Rand
	bytes  bytestream.ByteStreamClient
	cas    repb.ContentAddressableStorageClient
	cache  repb.ActionCacheClient
}

// operation is something that a client does.
type operation struct {
	name string
	do   func(c *busy, ctx context.Context) error
}

func operations() []operation {
	return []operation{
		{"write a blob and read it", (*busy).writeAndRead},
		{"write it compressed", (*busy).writePacked},
		{"write what others write", (*busy).writeShared},
		{"write, break off, go on", (*busy).writeResumed},
		{"write and give up", (*busy).writeAndGiveUp},
		{"read a part", (*busy).readPart},
		{"read compressed", (*busy).readPacked},
		{"read and give up", (*busy).readAndGiveUp},
		{"write a batch", (*busy).writeBatch},
		{"read a batch", (*busy).readBatch},
		{"find what is missing", (*busy).find},
		{"store and look up a result", (*busy).result},
		{"get a tree", (*busy).getTree},
	}
}

func (b *base) runClient(ctx context.Context, id uint64, goOn func() bool) error {
	conn, err := grpc.NewClient(b.address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close() // nothing is under way
	c := &busy{
		base: b, id: id, random: rand.New(rand.NewPCG(manySeed, id)), bytes: bytestream.NewByteStreamClient(conn),
		cas: repb.NewContentAddressableStorageClient(conn), cache: repb.NewActionCacheClient(conn),
	}
	ops := operations()
	for goOn() {
		i := c.random.IntN(len(ops))
		if err := c.once(ctx, ops[i]); err != nil {
			return fmt.Errorf("client %d, %s: %w", id, ops[i].name, err)
		}
		b.counts[i].Add(1)
	}
	return nil
}

func (c *busy) once(ctx context.Context, op operation) error {
	ctx, cancel := context.WithTimeout(ctx, manyPatience)
	defer cancel()
	return op.do(c, ctx)
}

// next makes a blob of this client: most are small.
func (c *busy) next() []byte {
	c.made++
	return c.blob(c.id, c.made, 1<<c.random.IntN(20)+c.random.IntN(1000))
}

func (c *busy) pick() ([]byte, cas.Digest) {
	i := c.random.IntN(len(c.blobs))
	return c.blobs[i], c.digests[i]
}

// upload is a Write stream of some bytes.
func (c *busy) upload(ctx context.Context, name string, data []byte, from, to int) (bytestream.ByteStream_WriteClient, error) {
	stream, err := c.bytes.Write(ctx)
	for sent := from; err == nil && sent < to; {
		n := min(to-sent, 1+c.random.IntN(300_000))
		err = stream.Send(&bytestream.WriteRequest{ResourceName: name, WriteOffset: int64(sent), Data: data[sent : sent+n], FinishWrite: sent+n == len(data)})
		sent += n
	}
	if errors.Is(err, io.EOF) { // the server has answered
		err = nil
	}
	return stream, err
}

func (c *busy) name(d cas.Digest, packed bool) string {
	kind := "blobs/"
	if packed {
		kind = "compressed-blobs/zstd/"
	}
	return fmt.Sprintf("uploads/%d-%d/%s%s", c.id, c.random.Uint32(), kind, d.Name())
}

func (c *busy) write(ctx context.Context, name string, data []byte) (committed int64, err error) {
	stream, err := c.upload(ctx, name, data, 0, len(data))
	if err != nil {
		return 0, err
	}
	resp, err := stream.CloseAndRecv()
	return resp.GetCommittedSize(), err
}

func (c *busy) read(ctx context.Context, req *bytestream.ReadRequest) ([]byte, error) {
	stream, err := c.bytes.Read(ctx, req)
	var data []byte
	for err == nil {
		var resp *bytestream.ReadResponse
		if resp, err = stream.Recv(); err == nil {
			data = append(data, resp.GetData()...)
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return data, err
}

// holds checks that a blob can be read.
func (c *busy) holds(ctx context.Context, d cas.Digest, want []byte) error {
	got, err := c.read(ctx, &bytestream.ReadRequest{ResourceName: "blobs/" + d.Name()})
	if err == nil && !bytes.Equal(got, want) {
		err = fmt.Errorf("%d other bytes came for %v", len(got), d)
	}
	return err
}

func (c *busy) writeAndRead(ctx context.Context) error {
	data := c.next()
	d := cas.SHA256.Sum(data)
	n, err := c.write(ctx, c.name(d, false), data)
	if err != nil || n != d.Size() {
		return fmt.Errorf("committed %d of %d: %w", n, d.Size(), err)
	}
	return c.holds(ctx, d, data)
}

func (c *busy) writePacked(ctx context.Context) error {
	data := c.next()
	d, packed := cas.SHA256.Sum(data), c.encoder.EncodeAll(data, nil)
	n, err := c.write(ctx, c.name(d, true), packed)
	if err != nil || n != int64(len(packed)) {
		return fmt.Errorf("committed %d of %d: %w", n, len(packed), err)
	}
	return c.holds(ctx, d, data)
}

// writeShared writes one of a few blobs, which others write at the same time in
// one form or another.
func (c *busy) writeShared(ctx context.Context) error {
	const together = 20
	data := c.blob(math.MaxUint64-1, uint64(c.shared.Add(1)/together), 500_000)
	d := cas.SHA256.Sum(data)
	var n int64
	var err error
	if c.random.IntN(2) == 0 {
		n, err = c.write(ctx, c.name(d, false), data)
	} else if n, err = c.write(ctx, c.name(d, true), c.encoder.EncodeAll(data, nil)); n == -1 || n > 0 {
		n = d.Size()
	}
	if err != nil || n != d.Size() {
		return fmt.Errorf("committed %d of %d: %w", n, d.Size(), err)
	}
	return c.holds(ctx, d, data)
}

func (c *busy) writeResumed(ctx context.Context) error {
	data := c.next()
	d, half := cas.SHA256.Sum(data), len(data)/2
	name := c.name(d, false)
	stream, err := c.upload(ctx, name, data, 0, half)
	if err != nil {
		return err
	}
	if resp, err := stream.CloseAndRecv(); err != nil || resp.GetCommittedSize() != int64(half) {
		return fmt.Errorf("half-closed at %d of %d: %v, %w", half, len(data), resp, err)
	}
	// Others may have pushed it out meanwhile.
	state, err := c.bytes.QueryWriteStatus(ctx, &bytestream.QueryWriteStatusRequest{ResourceName: name})
	if err != nil || state.GetComplete() || state.GetCommittedSize() != 0 && state.GetCommittedSize() != int64(half) {
		return fmt.Errorf("state of %d of %d bytes: %v, %w", half, len(data), state, err)
	}
	stream, err = c.upload(ctx, name, data, int(state.GetCommittedSize()), len(data))
	if err != nil {
		return err
	}
	resp, err := stream.CloseAndRecv()
	committed := resp.GetCommittedSize()
	if status.Code(err) == codes.InvalidArgument && state.GetCommittedSize() > 0 {
		committed, err = c.write(ctx, name, data) // pushed out since it was asked for
	}
	if err != nil || committed != d.Size() {
		return fmt.Errorf("went on at %d, committed %d of %d: %w", state.GetCommittedSize(), committed, d.Size(), err)
	}
	return c.holds(ctx, d, data)
}

func (c *busy) missing(ctx context.Context, ds ...*repb.Digest) ([]*repb.Digest, error) {
	resp, err := c.cas.FindMissingBlobs(ctx, &repb.FindMissingBlobsRequest{BlobDigests: ds})
	return resp.GetMissingBlobDigests(), err
}

func (c *busy) writeAndGiveUp(ctx context.Context) error {
	data := c.next()
	d := cas.SHA256.Sum(data)
	broken, cancel := context.WithCancel(ctx)
	_, err := c.upload(broken, c.name(d, c.random.IntN(2) == 0), data, 0, len(data)/2)
	cancel()
	if err != nil {
		return err
	}
	if missing, err := c.missing(ctx, d.Proto()); err != nil || len(missing) != 1 {
		return fmt.Errorf("after half of it %v are missing, %w", missing, err)
	}
	return nil
}

func (c *busy) readPart(ctx context.Context) error {
	data, d := c.pick()
	from := c.random.IntN(len(data) + 1)
	limit := c.random.IntN(len(data) + 1)
	to := min(from+limit, len(data))
	if limit == 0 {
		to = len(data)
	}
	got, err := c.read(ctx, &bytestream.ReadRequest{ResourceName: "blobs/" + d.Name(), ReadOffset: int64(from), ReadLimit: int64(limit)})
	if err != nil || !bytes.Equal(got, data[from:to]) {
		return fmt.Errorf("%d bytes from %d to %d of %d: %w", len(got), from, to, len(data), err)
	}
	return nil
}

func (c *busy) readPacked(ctx context.Context) error {
	data, d := c.pick()
	from := c.random.IntN(len(data) + 1)
	packed, err := c.read(ctx, &bytestream.ReadRequest{ResourceName: "compressed-blobs/zstd/" + d.Name(), ReadOffset: int64(from)})
	if err != nil {
		return err
	}
	got, err := c.decoder.DecodeAll(packed, nil)
	if err != nil || !bytes.Equal(got, data[from:]) {
		return fmt.Errorf("%d bytes from %d of %d: %w", len(got), from, len(data), err)
	}
	return nil
}

func (c *busy) readAndGiveUp(ctx context.Context) error {
	data, d := c.pick()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.bytes.Read(ctx, &bytestream.ReadRequest{ResourceName: "blobs/" + d.Name()})
	if err != nil {
		return err
	}
	first, err := stream.Recv()
	if err != nil || !bytes.HasPrefix(data, first.GetData()) {
		return fmt.Errorf("first message of %v: %w", d, err)
	}
	return nil
}

func (c *busy) writeBatch(ctx context.Context) error {
	req := &repb.BatchUpdateBlobsRequest{}
	wrong := c.random.IntN(10)
	var ds []*repb.Digest
	for i := range 1 + c.random.IntN(40) {
		c.made++
		data := c.blob(c.id, c.made, 1+c.random.IntN(4000))
		r := &repb.BatchUpdateBlobsRequest_Request{Digest: cas.SHA256.Sum(data).Proto(), Data: data}
		switch {
		case i == wrong:
			r.Data = append(r.Data[:len(r.Data)-1], '#', '#')
		case c.random.IntN(2) == 0:
			r.Data, r.Compressor = c.encoder.EncodeAll(data, nil), repb.Compressor_ZSTD
		}
		req.Requests, ds = append(req.Requests, r), append(ds, r.GetDigest())
	}
	resp, err := c.cas.BatchUpdateBlobs(ctx, req)
	if err != nil || len(resp.GetResponses()) != len(ds) {
		return fmt.Errorf("%d of %d are answered: %w", len(resp.GetResponses()), len(ds), err)
	}
	for i, r := range resp.GetResponses() {
		want := codes.OK
		if i == wrong {
			want = codes.InvalidArgument
		}
		if codes.Code(r.GetStatus().GetCode()) != want || !proto.Equal(r.GetDigest(), ds[i]) {
			return fmt.Errorf("blob %d of %d: %v, want %v", i, len(ds), r, want)
		}
	}
	missing, err := c.missing(ctx, ds...)
	if expected := min(1, max(0, len(ds)-wrong)); err != nil || len(missing) != expected {
		return fmt.Errorf("%d of a batch are missing, want %d: %w", len(missing), expected, err)
	}
	return nil
}

func (c *busy) readBatch(ctx context.Context) error {
	req := &repb.BatchReadBlobsRequest{}
	if c.random.IntN(2) == 0 {
		req.AcceptableCompressors = []repb.Compressor_Value{repb.Compressor_ZSTD}
	}
	var want [][]byte
	for total := 0; len(want) < 20; {
		data, d := c.pick()
		if total += len(data); total > 2<<20 {
			break
		}
		req.Digests, want = append(req.Digests, d.Proto()), append(want, data)
	}
	req.Digests, want = append(req.Digests, cas.SHA256.Sum(c.next()).Proto()), append(want, nil)
	resp, err := c.cas.BatchReadBlobs(ctx, req)
	if err != nil || len(resp.GetResponses()) != len(want) {
		return fmt.Errorf("%d of %d are answered: %w", len(resp.GetResponses()), len(want), err)
	}
	for i, r := range resp.GetResponses() {
		data := r.GetData()
		if r.GetCompressor() == repb.Compressor_ZSTD {
			data, err = c.decoder.DecodeAll(data, nil)
		}
		if absent := codes.Code(r.GetStatus().GetCode()) == codes.NotFound; err != nil || absent != (want[i] == nil) || !bytes.Equal(data, want[i]) {
			return fmt.Errorf("blob %d of %d: %d bytes, %v, %w", i, len(want), len(data), r.GetStatus(), err)
		}
	}
	return nil
}

func (c *busy) find(ctx context.Context) error {
	absent := 0
	var ds []*repb.Digest
	for range 1 + c.random.IntN(300) {
		_, d := c.pick()
		if c.random.IntN(3) == 0 {
			absent++
			c.made++
			d = cas.SHA256.Sum(fmt.Append(nil, "absent ", c.id, c.made))
		}
		ds = append(ds, d.Proto())
	}
	missing, err := c.missing(ctx, ds...)
	if err != nil || len(missing) != absent {
		return fmt.Errorf("%d are missing, want %d: %w", len(missing), absent, err)
	}
	return nil
}

func (c *busy) result(ctx context.Context) error {
	data, d := c.pick()
	c.made++
	key := cas.SHA256.Sum(fmt.Append(nil, "action ", c.id, c.made)).Proto()
	if _, err := c.cache.GetActionResult(ctx, &repb.GetActionResultRequest{ActionDigest: key}); status.Code(err) != codes.NotFound {
		return fmt.Errorf("before it is stored: %w", err)
	}
	want := &repb.ActionResult{OutputFiles: []*repb.OutputFile{{Path: "out", Digest: d.Proto()}}, ExitCode: int32(c.random.IntN(100))}
	if _, err := c.cache.UpdateActionResult(ctx, &repb.UpdateActionResultRequest{ActionDigest: key, ActionResult: want}); err != nil {
		return err
	}
	got, err := c.cache.GetActionResult(ctx, &repb.GetActionResultRequest{ActionDigest: key, InlineOutputFiles: []string{"out"}})
	if err != nil || got.GetExitCode() != want.GetExitCode() || len(got.GetOutputFiles()) != 1 || !proto.Equal(got.GetOutputFiles()[0].GetDigest(), d.Proto()) {
		return fmt.Errorf("got %v: %w", got, err)
	}
	if inlined := got.GetOutputFiles()[0].GetContents(); len(inlined) > 0 && !bytes.Equal(inlined, data) {
		return fmt.Errorf("%d other bytes are inlined", len(inlined))
	}
	// A result whose blob was never there is none.
	want.StdoutDigest = cas.SHA256.Sum(c.next()).Proto()
	if _, err := c.cache.UpdateActionResult(ctx, &repb.UpdateActionResultRequest{ActionDigest: key, ActionResult: want}); err != nil {
		return err
	}
	if _, err := c.cache.GetActionResult(ctx, &repb.GetActionResultRequest{ActionDigest: key}); status.Code(err) != codes.NotFound {
		return fmt.Errorf("an incomplete result: %w", err)
	}
	return nil
}

func (c *busy) getTree(ctx context.Context) error {
	size := c.random.IntN(100)
	stream, err := c.cas.GetTree(ctx, &repb.GetTreeRequest{RootDigest: c.tree, PageSize: int32(size)})
	got := 0
	for err == nil {
		var page *repb.GetTreeResponse
		if page, err = stream.Recv(); err == nil {
			got += len(page.GetDirectories())
		}
	}
	if !errors.Is(err, io.EOF) || got != baseDirectories+1 {
		return fmt.Errorf("%d directories in pages of %d: %w", got, size, err)
	}
	return nil
}
