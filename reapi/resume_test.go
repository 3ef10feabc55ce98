package reapi_test

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/bytestream"
	"google.golang.org/grpc/codes"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/disk"
	"github.com/hearth-build/hearth/reapi"
)

// broken is a Write that its client can break off.
type broken struct {
	f      *fixture
	stream bytestream.ByteStream_WriteClient
	cancel context.CancelFunc
}

// begin sends messages without ending the call.
func (f *fixture) begin(messages ...*bytestream.WriteRequest) *broken {
	f.t.Helper()
	ctx, cancel := context.WithCancel(f.t.Context())
	f.t.Cleanup(cancel)
	stream, err := bytestream.NewByteStreamClient(f.conn).Write(ctx)
	if err != nil {
		f.t.Fatal(err)
	}
	for _, m := range messages {
		if err := stream.Send(m); err != nil {
			f.t.Fatal(err)
		}
	}
	return &broken{f: f, stream: stream, cancel: cancel}
}

// breakAt breaks the call off once the server has so many bytes.
func (b *broken) breakAt(name string, committed int64) {
	b.f.t.Helper()
	b.f.waitCommitted(name, committed)
	b.cancel()
	if _, err := b.stream.CloseAndRecv(); err == nil {
		b.f.t.Fatal("a cancelled call succeeded")
	}
}

func (f *fixture) committed(name string) *bytestream.QueryWriteStatusResponse {
	f.t.Helper()
	q, err := bytestream.NewByteStreamClient(f.conn).QueryWriteStatus(f.t.Context(), &bytestream.QueryWriteStatusRequest{ResourceName: name})
	if err != nil {
		f.t.Fatal(err)
	}
	return q
}

func (f *fixture) waitCommitted(name string, want int64) {
	f.t.Helper()
	var got int64
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		if got = f.committed(name).GetCommittedSize(); got == want {
			return
		}
	}
	f.t.Fatalf("committed_size %d, want %d", got, want)
}

func (f *fixture) wantStored(blob []byte, stored bool) {
	f.t.Helper()
	got, err := f.read(&bytestream.ReadRequest{ResourceName: "blobs/" + cas.SHA256.Sum(blob).Name()})
	switch {
	case stored && (err != nil || !bytes.Equal(got, blob)):
		f.t.Errorf("read %d bytes, %v", len(got), err)
	case !stored:
		if err == nil {
			f.t.Error("an unfinished blob can be read")
		}
	}
}

// REAPI D10, D20, D25, D27: what a broken call brought is kept, in each store.
func TestResumeBrokenUpload(t *testing.T) {
	for name, f := range map[string]*fixture{"memory": newFixture(t), "disk": newDiskFixture(t)} {
		t.Run(name, func(t *testing.T) { testResume(t, f) })
	}
}

func testResume(t *testing.T, f *fixture) {
	t.Helper()
	blob := text(3_000_000)
	name := upload(cas.SHA256.Sum(blob))
	f.begin(inMessages(name, blob, 100_000)[:10]...).breakAt(name, 1_000_000)
	f.wantStored(blob, false)
	f.begin(inMessagesFrom(name, blob, 1_000_000, 100_000)[:5]...).breakAt(name, 1_500_000)
	f.wantStored(blob, false)
	committed, err := f.write(inMessagesFrom(name, blob, 1_500_000, 500_000)...)
	if err != nil || committed != int64(len(blob)) {
		t.Errorf("committed %d, %v", committed, err)
	}
	f.wantStored(blob, true)
	if q := f.committed(name); !q.GetComplete() || q.GetCommittedSize() != int64(len(blob)) {
		t.Errorf("at the end: %v", q)
	}
}

// inMessagesFrom is inMessages for the rest of a blob.
func inMessagesFrom(name string, data []byte, from, size int) []*bytestream.WriteRequest {
	messages := inMessages(name, data[from:], size)
	for _, m := range messages {
		m.WriteOffset += int64(from)
	}
	return messages
}

// REAPI D13: a half-close is no end, but the bytes count.
func TestResumeHalfClosedUpload(t *testing.T) {
	f := newFixture(t)
	blob := text(50_000)
	name := upload(cas.SHA256.Sum(blob))
	if committed, err := f.write(&bytestream.WriteRequest{ResourceName: name, Data: blob[:20_000]}); err != nil || committed != 20_000 {
		t.Fatalf("half-closed: committed %d, %v", committed, err)
	}
	f.wantStored(blob, false)
	if committed, err := f.write(&bytestream.WriteRequest{ResourceName: name, WriteOffset: 20_000, Data: blob[20_000:]}); err != nil || committed != 50_000 {
		t.Errorf("all bytes, not finished: committed %d, %v", committed, err)
	}
	f.wantStored(blob, false)
	if q := f.committed(name); q.GetComplete() || q.GetCommittedSize() != 50_000 {
		t.Errorf("all bytes, not finished: %v", q)
	}
	if committed, err := f.write(&bytestream.WriteRequest{ResourceName: name, WriteOffset: 50_000, FinishWrite: true}); err != nil || committed != 50_000 {
		t.Errorf("finished: committed %d, %v", committed, err)
	}
	f.wantStored(blob, true)
}

// REAPI D5, D9, D10: only the same upload, only where it stands.
func TestResumeRefuses(t *testing.T) {
	f := newFixture(t)
	blob := text(10_000)
	d := cas.SHA256.Sum(blob)
	name := upload(d)
	f.begin(&bytestream.WriteRequest{ResourceName: name, Data: blob[:4000]}).breakAt(name, 4000)
	for what, other := range map[string]string{
		"another id":       "uploads/another/blobs/" + d.Name(),
		"another instance": "team/one/" + name,
		"another blob":     upload(cas.SHA256.Sum(blob[1:])),
		"another function": upload(cas.BLAKE3.Sum(blob)),
		"compressed":       packedUpload("zstd", d),
	} {
		if q := f.committed(other); q.GetCommittedSize() != 0 || q.GetComplete() {
			t.Errorf("%s: %v", what, q)
		}
		_, err := f.write(&bytestream.WriteRequest{ResourceName: other, WriteOffset: 4000, Data: blob[4000:], FinishWrite: true})
		wantCode(t, what, err, codes.InvalidArgument)
	}
	for _, offset := range []int{1, 3999, 4001, 10_000} {
		_, err := f.write(&bytestream.WriteRequest{ResourceName: name, WriteOffset: int64(offset), Data: blob[offset:], FinishWrite: true})
		wantCode(t, "offset beside the point", err, codes.InvalidArgument)
	}
	if q := f.committed(name); q.GetCommittedSize() != 4000 {
		t.Errorf("mistakes changed the upload: %v", q)
	}
	if _, err := f.write(&bytestream.WriteRequest{ResourceName: name, WriteOffset: 4000, Data: blob[4000:], FinishWrite: true}); err != nil {
		t.Error(err)
	}
	f.wantStored(blob, true)
}

// REAPI D15: bytes that turn out to be wrong are forgotten, and healed from the start.
func TestWrongBytesAreNotKept(t *testing.T) {
	f := newFixture(t)
	blob := text(10_000)
	name := upload(cas.SHA256.Sum(blob))
	f.begin(&bytestream.WriteRequest{ResourceName: name, Data: bytes.ToUpper(blob[:4000])}).breakAt(name, 4000)
	_, err := f.write(&bytestream.WriteRequest{ResourceName: name, WriteOffset: 4000, Data: blob[4000:], FinishWrite: true})
	wantCode(t, "wrong bytes", err, codes.InvalidArgument)
	if q := f.committed(name); q.GetCommittedSize() != 0 {
		t.Errorf("kept: %v", q)
	}
	f.begin(&bytestream.WriteRequest{ResourceName: name, Data: bytes.ToUpper(blob[:5000])}).breakAt(name, 5000)
	// A client may also begin again without asking.
	if _, err := f.write(inMessages(name, blob, 3000)...); err != nil {
		t.Error(err)
	}
	f.wantStored(blob, true)
}

// REAPI D22, D27: the first call has not noticed that its client is gone.
func TestResumeWhileTheFirstCallIsOpen(t *testing.T) {
	f := newFixture(t)
	blob := text(10_000)
	name := upload(cas.SHA256.Sum(blob))
	first := f.begin(&bytestream.WriteRequest{ResourceName: name, Data: blob[:2000]})
	f.waitCommitted(name, 2000) // promises that one can go on here
	if err := first.stream.Send(&bytestream.WriteRequest{WriteOffset: 2000, Data: blob[2000:4000]}); err != nil {
		t.Fatal(err)
	}
	committed, err := f.write(inMessagesFrom(name, blob, 2000, 3000)...)
	if err != nil || committed != int64(len(blob)) {
		t.Errorf("committed %d, %v", committed, err)
	}
	_, err = first.stream.CloseAndRecv()
	wantCode(t, "the first call", err, codes.Aborted)
	f.wantStored(blob, true)
}

// newDiskFixture is newFixture with the store that is the default: its writers
// of one blob wait for each other.
func newDiskFixture(t *testing.T) *fixture {
	t.Helper()
	blobs, err := disk.Open(t.Context(), disk.Options{Dir: filepath.Join(t.TempDir(), "store"), MaxBytes: 64 << 20, MinFreeBytes: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // after the server's
		if err := blobs.Close(); err != nil {
			t.Error(err)
		}
	})
	return newFixtureOf(t, reapi.Instances{"": {Store: blobs.Namespace("")}})
}

// REAPI D16, D22: another upload of the blob neither waits for one that broke
// off nor fails by it.
func TestBrokenUploadHoldsNobodyUp(t *testing.T) {
	f := newDiskFixture(t)
	for i, again := range []func(name string, d cas.Digest, blob []byte) (int64, error){
		func(_ string, d cas.Digest, blob []byte) (int64, error) {
			return f.write(inMessages("uploads/another/blobs/"+d.Name(), blob, 100_000)...)
		},
		func(name string, _ cas.Digest, blob []byte) (int64, error) {
			return f.write(inMessages(name, blob, 100_000)...)
		},
		func(name string, _ cas.Digest, blob []byte) (int64, error) {
			return f.write(inMessages(name, blob, len(blob))...)
		},
		func(_ string, d cas.Digest, blob []byte) (int64, error) {
			return f.write(inMessages(packedUpload("zstd", d), packZstd(t, blob), 100_000)...)
		},
	} {
		blob := append(text(2_000_000), byte(i))
		d := cas.SHA256.Sum(blob)
		name := upload(d)
		f.begin(inMessages(name, blob, 100_000)[:3]...).breakAt(name, 300_000)
		f.waitParked(name, blob)
		start := time.Now()
		if _, err := again(name, d, blob); err != nil {
			t.Errorf("way %d: %v", i, err)
		}
		if took := time.Since(start); took > 8*time.Second {
			t.Errorf("way %d: it took %v", i, took)
		}
		f.wantStored(blob, true)
		// Now there is nothing to go on with, but nothing to do, either.
		if committed, err := f.write(inMessagesFrom(name, blob, 300_000, 100_000)...); err != nil || committed != d.Size() {
			t.Errorf("way %d: committed %d, %v", i, committed, err)
		}
	}
}

// waitParked waits until the server has noticed that the client is gone.
func (f *fixture) waitParked(name string, blob []byte) {
	f.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		committed, err := f.write(&bytestream.WriteRequest{ResourceName: name, WriteOffset: 300_000, Data: blob[300_000:300_000]})
		if err == nil && committed == 300_000 {
			return
		}
	}
	f.t.Fatal("the server does not notice that the client is gone")
}

// REAPI D20: a server that stops gives broken uploads up at once.
func TestFinishEndsBrokenUploads(t *testing.T) {
	f := newFixture(t)
	blob := text(1_000_000)
	name := upload(cas.SHA256.Sum(blob))
	f.begin(&bytestream.WriteRequest{ResourceName: name, Data: blob[:1000]}).breakAt(name, 1000)
	open := f.begin(&bytestream.WriteRequest{ResourceName: "uploads/x/blobs/" + cas.SHA1.Sum(blob).Name(), Data: blob[:1000]})
	f.waitCommitted("uploads/x/blobs/"+cas.SHA1.Sum(blob).Name(), 1000)
	open.cancel()
	start := time.Now()
	f.server.Finish()
	if took := time.Since(start); took > 4*time.Second {
		t.Errorf("it took %v", took)
	}
	if _, err := open.stream.CloseAndRecv(); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the open call ended with %v", err)
	}
}
