package reapi_test

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"google.golang.org/genproto/googleapis/bytestream"
	"google.golang.org/grpc/codes"

	"github.com/hearth-build/hearth/cas"
)

func (f *fixture) read(req *bytestream.ReadRequest) ([]byte, error) {
	stream, err := bytestream.NewByteStreamClient(f.conn).Read(f.t.Context(), req)
	if err != nil {
		return nil, err
	}
	var data []byte
	for {
		resp, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return data, nil
		}
		if err != nil {
			return data, err
		}
		data = append(data, resp.GetData()...)
	}
}

// write sends the messages and returns the server's answer. It half-closes at
// the end unless the server answers before.
func (f *fixture) write(messages ...*bytestream.WriteRequest) (int64, error) {
	stream, err := bytestream.NewByteStreamClient(f.conn).Write(f.t.Context())
	if err != nil {
		return 0, err
	}
	for _, m := range messages {
		if err := stream.Send(m); err != nil {
			break // the server has answered
		}
	}
	resp, err := stream.CloseAndRecv()
	return resp.GetCommittedSize(), err
}

func upload(d cas.Digest) string {
	return "uploads/3f2504e0-4f89-41d3-9a0c-0305e82c3301/blobs/" + d.Name()
}

// REAPI D1, D3, D5-D7, D29-D31, D34, B11, B14.
func TestRead(t *testing.T) {
	f := newFixture(t)
	blob := bytes.Repeat([]byte("0123456789"), 300_000)
	f.put(blob)
	d := cas.SHA256.Sum(blob)
	size := int64(len(blob))
	for _, tc := range []struct {
		name string
		req  *bytestream.ReadRequest
		want []byte
		code codes.Code
	}{
		{"all", &bytestream.ReadRequest{ResourceName: "blobs/" + d.Name()}, blob, codes.OK},
		{"from the middle", &bytestream.ReadRequest{ResourceName: "blobs/" + d.Name(), ReadOffset: 2_000_001}, blob[2_000_001:], codes.OK},
		{"limited", &bytestream.ReadRequest{ResourceName: "blobs/" + d.Name(), ReadOffset: 5, ReadLimit: 10}, blob[5:15], codes.OK},
		{"limit over the end", &bytestream.ReadRequest{ResourceName: "blobs/" + d.Name(), ReadOffset: size - 3, ReadLimit: 10}, blob[size-3:], codes.OK},
		{"at the end", &bytestream.ReadRequest{ResourceName: "blobs/" + d.Name(), ReadOffset: size}, nil, codes.OK},
		{"empty", &bytestream.ReadRequest{ResourceName: "blobs/" + cas.SHA256.Empty().Name()}, nil, codes.OK},
		{"beyond the end", &bytestream.ReadRequest{ResourceName: "blobs/" + d.Name(), ReadOffset: size + 1}, nil, codes.OutOfRange},
		{"before the start", &bytestream.ReadRequest{ResourceName: "blobs/" + d.Name(), ReadOffset: -1}, nil, codes.OutOfRange},
		{"negative limit", &bytestream.ReadRequest{ResourceName: "blobs/" + d.Name(), ReadLimit: -1}, nil, codes.InvalidArgument},
		{"absent", &bytestream.ReadRequest{ResourceName: "blobs/" + cas.SHA256.Sum([]byte("gone")).Name()}, nil, codes.NotFound},
		{"other function", &bytestream.ReadRequest{ResourceName: "blobs/blake3/" + d.Name()}, nil, codes.NotFound},
		{"write name", &bytestream.ReadRequest{ResourceName: upload(d)}, nil, codes.InvalidArgument},
		{"goes on", &bytestream.ReadRequest{ResourceName: "blobs/" + d.Name() + "/x"}, nil, codes.InvalidArgument},
		{"no size", &bytestream.ReadRequest{ResourceName: "blobs/" + d.Hash()}, nil, codes.InvalidArgument},
		{"signed size", &bytestream.ReadRequest{ResourceName: "blobs/" + d.Hash() + "/+5"}, nil, codes.InvalidArgument},
		{"huge size", &bytestream.ReadRequest{ResourceName: "blobs/" + d.Hash() + "/99999999999999999999"}, nil, codes.InvalidArgument},
		{"nothing", &bytestream.ReadRequest{}, nil, codes.InvalidArgument},
	} {
		got, err := f.read(tc.req)
		wantCode(t, tc.name, err, tc.code)
		if !bytes.Equal(got, tc.want) {
			t.Errorf("%s: %d bytes, want %d", tc.name, len(got), len(tc.want))
		}
	}
}

// REAPI D2, D8-D15, D23, 0.1, 0.2: what a Write may be, and what it may not.
func TestWrite(t *testing.T) {
	data := []byte("0123456789")
	d := cas.SHA256.Sum(data)
	name := upload(d)
	type msgs = []*bytestream.WriteRequest
	for _, tc := range []struct {
		name     string
		messages msgs
		code     codes.Code
	}{
		{"one message", msgs{{ResourceName: name, Data: data, FinishWrite: true}}, codes.OK},
		{"several, with keep-alives", msgs{
			{ResourceName: name},
			{Data: data[:4]},
			{WriteOffset: 4},
			{ResourceName: name, WriteOffset: 4, Data: data[4:]},
			{WriteOffset: 10, FinishWrite: true},
		}, codes.OK},
		{"metadata behind the size", msgs{{ResourceName: name + "/uploads/blobs/x", Data: data, FinishWrite: true}}, codes.OK},
		{"no message", msgs{}, codes.InvalidArgument},
		{"no name", msgs{{Data: data, FinishWrite: true}}, codes.InvalidArgument},
		{"read name", msgs{{ResourceName: "blobs/" + d.Name(), Data: data, FinishWrite: true}}, codes.InvalidArgument},
		{"no upload id", msgs{{ResourceName: "uploads//blobs/" + d.Name(), Data: data, FinishWrite: true}}, codes.InvalidArgument},
		{"name changes", msgs{{ResourceName: name, Data: data[:4]}, {ResourceName: name + "x", WriteOffset: 4, Data: data[4:], FinishWrite: true}}, codes.InvalidArgument},
		{"gap", msgs{{ResourceName: name, Data: data[:4]}, {WriteOffset: 5, Data: data[4:], FinishWrite: true}}, codes.InvalidArgument},
		{"overlap", msgs{{ResourceName: name, Data: data[:4]}, {WriteOffset: 3, Data: data[4:], FinishWrite: true}}, codes.InvalidArgument},
		{"starts late", msgs{{ResourceName: name, WriteOffset: 4, Data: data[4:], FinishWrite: true}}, codes.InvalidArgument},
		{"nothing but a name", msgs{{ResourceName: name}}, codes.InvalidArgument},
		{"starts before the start", msgs{{ResourceName: name, WriteOffset: -1, Data: data, FinishWrite: true}}, codes.InvalidArgument},
		{"too long, in several messages", msgs{{ResourceName: name, Data: data}, {WriteOffset: 10, Data: data}, {WriteOffset: 20, FinishWrite: true}}, codes.InvalidArgument},
		{"too short, in several messages", msgs{{ResourceName: name, Data: data[:5]}, {WriteOffset: 5, FinishWrite: true}}, codes.InvalidArgument},
		{"too short", msgs{{ResourceName: name, Data: data[:9], FinishWrite: true}}, codes.InvalidArgument},
		{"too long", msgs{{ResourceName: name, Data: append(data, 'x'), FinishWrite: true}}, codes.InvalidArgument},
		{"other bytes", msgs{{ResourceName: name, Data: []byte("9876543210"), FinishWrite: true}}, codes.InvalidArgument},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFixture(t)
			committed, err := f.write(tc.messages...)
			wantCode(t, "write", err, tc.code)
			missing, findErr := f.instances[""].Store.FindMissing(t.Context(), []cas.Digest{d})
			if findErr != nil || (len(missing) == 0) != (tc.code == codes.OK) {
				t.Errorf("missing %v, %v", missing, findErr)
			}
			if tc.code == codes.OK && committed != int64(len(data)) {
				t.Errorf("committed %d", committed)
			}
		})
	}
}

// REAPI D16, D18, D25, D26, D28, B14.
func TestWriteOfPresentBlob(t *testing.T) {
	f := newFixture(t)
	blob := bytes.Repeat([]byte{7}, 5<<20)
	f.put(blob)
	d := cas.SHA256.Sum(blob)
	if n, err := f.write(&bytestream.WriteRequest{ResourceName: upload(d), Data: blob[:1<<20]}); err != nil || n != d.Size() {
		t.Errorf("a present blob: committed %d, %v", n, err)
	}
	if n, err := f.write(&bytestream.WriteRequest{ResourceName: upload(cas.SHA256.Empty()), FinishWrite: true}); err != nil || n != 0 {
		t.Errorf("the empty blob: committed %d, %v", n, err)
	}
	client := bytestream.NewByteStreamClient(f.conn)
	q, err := client.QueryWriteStatus(t.Context(), &bytestream.QueryWriteStatusRequest{ResourceName: upload(d)})
	if err != nil || !q.GetComplete() || q.GetCommittedSize() != d.Size() {
		t.Errorf("present: %v, %v", q, err)
	}
	q, err = client.QueryWriteStatus(t.Context(), &bytestream.QueryWriteStatusRequest{ResourceName: upload(cas.SHA256.Sum([]byte("gone")))})
	if err != nil || q.GetComplete() || q.GetCommittedSize() != 0 {
		t.Errorf("unknown upload: %v, %v", q, err)
	}
	_, err = client.QueryWriteStatus(t.Context(), &bytestream.QueryWriteStatusRequest{ResourceName: "blobs/" + d.Name()})
	wantCode(t, "malformed name", err, codes.InvalidArgument)
}

// REAPI 0.5, D21: a full store says so in a way that makes clients wait.
func TestWriteToFullStore(t *testing.T) {
	f := newFixture(t)
	kept := bytes.Repeat([]byte{1}, 60<<20)
	f.put(kept)
	leaser, ok := f.instances[""].Store.(cas.Leaser)
	if !ok {
		t.Fatal("the store leases nothing")
	}
	defer leaser.Lease([]cas.Digest{cas.SHA256.Sum(kept)})()
	blob := make([]byte, 10<<20)
	d := cas.SHA256.Sum(blob)
	var messages []*bytestream.WriteRequest
	const chunk = 1 << 20
	for at := 0; at < len(blob); at += chunk {
		messages = append(messages, &bytestream.WriteRequest{
			ResourceName: upload(d), WriteOffset: int64(at), Data: blob[at : at+chunk], FinishWrite: at+chunk == len(blob),
		})
	}
	_, err := f.write(messages...)
	wantCode(t, "write", err, codes.ResourceExhausted)
	if !hasRetryInfo(err) {
		t.Errorf("%v does not say when to try again", err)
	}
}
