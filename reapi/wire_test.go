package reapi

import (
	"bytes"
	"io"
	"math"
	"math/rand/v2"
	"testing"

	"google.golang.org/genproto/googleapis/bytestream"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// cut divides bytes into buffers as a network would.
func cut(data []byte, random *rand.Rand) mem.BufferSlice {
	var s mem.BufferSlice
	for len(data) > 0 {
		n := 1 + random.IntN(min(len(data), 20))
		s = append(s, mem.SliceBuffer(data[:n]))
		data = data[n:]
	}
	return s
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// Whatever the encoding, a message means what the protobuf library says.
func TestWriteMessage(t *testing.T) {
	encode := func(m *bytestream.WriteRequest) []byte {
		data, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	name := encode(&bytestream.WriteRequest{ResourceName: "uploads/u/blobs/x/1"})
	offset := encode(&bytestream.WriteRequest{WriteOffset: math.MaxInt64})
	data := encode(&bytestream.WriteRequest{Data: []byte("some bytes")})
	other := encode(&bytestream.WriteRequest{Data: bytes.Repeat([]byte("x"), 300)})
	unknown := protowire.AppendVarint(protowire.AppendTag(nil, 99, protowire.VarintType), 7)
	group := protowire.AppendTag(protowire.AppendTag(nil, 98, protowire.StartGroupType), 98, protowire.EndGroupType)
	messages := map[string][]byte{
		"empty":              {},
		"all":                encode(&bytestream.WriteRequest{ResourceName: "n", WriteOffset: 5, FinishWrite: true, Data: []byte("abc")}),
		"negative offset":    encode(&bytestream.WriteRequest{WriteOffset: -1}),
		"only a name":        name,
		"data first":         join(data, name, offset),
		"data twice":         join(data, other),
		"name twice":         join(name, encode(&bytestream.WriteRequest{ResourceName: "m"}), data),
		"no data":            join(name, protowire.AppendTag(nil, 10, protowire.BytesType), []byte{0}),
		"unknown fields":     join(unknown, name, group, data, unknown),
		"finish is 2":        join(protowire.AppendTag(nil, 3, protowire.VarintType), []byte{2}, data),
		"wrong type":         join(protowire.AppendTag(nil, 2, protowire.BytesType), []byte{1, 'x'}, data),
		"ends in a tag":      join(name, []byte{0x80}),
		"ends before length": join(name, []byte{0x52}),
		"ends in a name":     name[:5],
		"ends in data":       data[:5],
		"not UTF-8":          join(protowire.AppendTag(nil, 1, protowire.BytesType), []byte{1, 0xff}, data),
		"endless number":     bytes.Repeat([]byte{0xff}, 20),
	}
	random := rand.New(rand.NewPCG(1, 2))
	for what, encoded := range messages {
		var want bytestream.WriteRequest
		wantErr := proto.Unmarshal(encoded, &want)
		for range 20 {
			var got writeMessage
			err := newWireCodec().Unmarshal(cut(encoded, random), &got)
			if (err == nil) != (wantErr == nil) {
				t.Errorf("%s: %v, want %v", what, err, wantErr)
			}
			if err != nil || wantErr != nil {
				continue
			}
			data := make([]byte, got.data.size()+1)
			n := got.data.read(data)
			if got.name != want.GetResourceName() || got.offset != want.GetWriteOffset() || got.finish != want.GetFinishWrite() ||
				!bytes.Equal(data[:n], want.GetData()) || got.data.size() != 0 || got.data.read(data) != 0 {
				t.Errorf("%s: %+v with %q, want %v", what, got, data[:n], &want)
			}
		}
	}
}

func TestPayloadSkips(t *testing.T) {
	p := payload{cut([]byte("0123456789"), rand.New(rand.NewPCG(3, 4))).Reader()}
	p.skip(0)
	p.skip(7)
	b := make([]byte, 2)
	if n := p.read(b); n != 2 || string(b) != "78" || p.size() != 1 {
		t.Errorf("%d bytes, %q, %d left", n, b, p.size())
	}
	var none payload
	if none.skip(0); none.size() != 0 || none.read(b) != 0 {
		t.Error("a payload of no message has bytes")
	}
}

// sentMessages collects what a server sends, as the client's library decodes it.
type sentMessages struct {
	t    *testing.T
	data [][]byte
}

// SendMsg implements messageSender.
func (s *sentMessages) SendMsg(m any) error {
	encoded, err := newWireCodec().Marshal(m)
	if err != nil {
		return err
	}
	defer encoded.Free()
	var resp bytestream.ReadResponse
	if err := proto.Unmarshal(encoded.Materialize(), &resp); err != nil {
		s.t.Error(err)
	}
	s.data = append(s.data, resp.GetData())
	return nil
}

func TestReadMessages(t *testing.T) {
	var s byteStreamServer
	for _, size := range []int{0, 1, 127, 128, chunkBytes - 1, chunkBytes, chunkBytes + 1, 3*chunkBytes + 5} {
		blob := bytes.Repeat([]byte("0123456"), size/7+1)
		sent := &sentMessages{t: t}
		if err := s.send(sent, bytes.NewReader(blob), int64(size)); err != nil {
			t.Fatal(err)
		}
		packed := &sentMessages{t: t}
		out := &chunkSender{stream: packed, chunks: &s.chunks}
		for rest := blob[:size]; len(rest) > 0; {
			n := min(len(rest), 100_000)
			if m, err := out.Write(rest[:n]); err != nil || m != n {
				t.Fatal(m, err)
			}
			rest = rest[n:]
		}
		if err := out.flush(); err != nil {
			t.Fatal(err)
		}
		out.discard()
		want := (size + chunkBytes - 1) / chunkBytes
		for what, got := range map[string]*sentMessages{"identity": sent, "compressed": packed} {
			if !bytes.Equal(join(got.data...), blob[:size]) || len(got.data) != want {
				t.Errorf("%s: %d bytes came in %d messages, want %d in %d", what, len(join(got.data...)), len(got.data), size, want)
			}
		}
	}
	if err := s.send(&sentMessages{t: t}, io.LimitReader(bytes.NewReader(make([]byte, 10)), 5), 10); err == nil {
		t.Error("a blob that ends early was sent")
	}
}
